// A client of the API server: it writes the objects and the statuses that Operon's host would write.

import { execFileSync } from 'node:child_process';
import https from 'node:https';

import { kubectl } from './environment.js';

const MERGE = 'application/merge-patch+json';

// Group and plural of each kind.
const KINDS = {
  ActionPlugin: ['operon.dev/v1alpha1', 'actionplugins'],
  CollaSet: ['apps.kusionstack.io/v1alpha1', 'collasets'],
  DaemonJob: ['api.practice.com/v1alpha1', 'daemonjobs'],
  Event: ['v1', 'events'],
  Job: ['batch/v1', 'jobs'],
  JobFlow: ['api.practice.com/v1alpha1', 'jobflows'],
  Namespace: ['v1', 'namespaces'],
  Node: ['v1', 'nodes'],
  OperationJob: ['apps.kusionstack.io/v1alpha1', 'operationjobs'],
  Pod: ['v1', 'pods'],
  ReactiveJob: ['batch.cs.sap.com/v1alpha1', 'reactivejobs'],
};

export class Cluster {
  // The cluster of KUBECONFIG.
  static connect() {
    const read = ['config', 'view', '--raw', '--flatten', '--minify', '--output=json'];
    const config = JSON.parse(execFileSync(kubectl(), read));
    const [{ cluster }] = config.clusters;
    const [{ user }] = config.users;
    const decoded = (text) => (text ? Buffer.from(text, 'base64') : undefined);
    const agent = new https.Agent({
      keepAlive: true,
      ca: decoded(cluster['certificate-authority-data']),
      cert: decoded(user['client-certificate-data']),
      key: decoded(user['client-key-data']),
    });
    return new Cluster(cluster.server, agent);
  }

  constructor(server, agent) {
    this.server = server;
    this.agent = agent;
  }

  // Creates an object, then writes its status; returns what the API server made of it.
  async create({ status, ...object }) {
    object.apiVersion = KINDS[object.kind][0];
    const created = await this.request('POST', collection(object), object);
    return status === undefined ? created : this.status(created, status);
  }

  // Changes fields of the status.
  status(object, status) {
    return this.request('PATCH', `${address(object)}/status`, { status }, MERGE);
  }

  // Changes fields of the object.
  patch(object, fields) {
    return this.request('PATCH', address(object), fields, MERGE);
  }

  delete(object) {
    return this.request('DELETE', address(object));
  }

  // Ends the connections that are kept.
  close() {
    this.agent.destroy();
  }

  request(method, path, body, type = 'application/json') {
    const text = body === undefined ? '' : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const options = {
        method,
        agent: this.agent,
        headers: { 'content-type': type, 'content-length': Buffer.byteLength(text) },
      };
      const request = https.request(this.server + path, options, (answer) => {
        const parts = [];
        answer.on('data', (part) => parts.push(part));
        answer.on('error', reject);
        answer.on('end', () => {
          const json = JSON.parse(Buffer.concat(parts).toString());
          if (answer.statusCode < 300) resolve(json);
          else reject(new Error(`${method} ${path}: ${answer.statusCode} ${json.message}`));
        });
      });
      request.on('error', reject);
      request.end(text);
    });
  }
}

function collection({ kind, metadata }) {
  const [version, plural] = KINDS[kind];
  const root = version === 'v1' ? '/api' : '/apis';
  const namespace = metadata.namespace ? `/namespaces/${metadata.namespace}` : '';
  return `${root}/${version}${namespace}/${plural}`;
}

function address(object) {
  return `${collection(object)}/${object.metadata.name}`;
}
