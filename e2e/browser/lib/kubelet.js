// A node with nothing but logs: it answers the API server as a kubelet does.

import { readFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';

import { certificates } from './environment.js';

export class Kubelet {
  // Adds a node of this name to the cluster, and serves the log of all its containers.
  static async join(cluster, name) {
    const kubelet = new Kubelet();
    await new Promise((resolve) => kubelet.server.listen(0, '127.0.0.1', resolve));
    const { port } = kubelet.server.address();
    await cluster.create({
      kind: 'Node',
      metadata: { name },
      status: {
        addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
        daemonEndpoints: { kubeletEndpoint: { Port: port } },
      },
    });
    return kubelet;
  }

  constructor() {
    this.lines = [];
    // The only certificate of the cluster for a server on loopback.
    const read = (name) => readFileSync(join(certificates(), name));
    const identity = { cert: read('kube-apiserver.crt'), key: read('kube-apiserver.key') };
    this.server = https.createServer(identity, (request, answer) => {
      const most = Number(new URL(request.url, 'https://node').searchParams.get('tailLines'));
      answer.end(this.lines.slice(-most).map((line) => `${line}\n`).join(''));
    });
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
