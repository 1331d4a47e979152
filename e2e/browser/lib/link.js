// The connection between browser and command, which can be cut: a TCP proxy on a port of its own.

import net from 'node:net';

export class Link {
  static async to(port) {
    const link = new Link(port);
    await new Promise((resolve) => link.server.listen(0, '127.0.0.1', resolve));
    return link;
  }

  constructor(port) {
    this.sockets = new Set();
    this.isCut = false;
    this.server = net.createServer((near) => {
      if (this.isCut) {
        near.destroy();
        return;
      }
      const far = net.connect(port, '127.0.0.1');
      for (const socket of [near, far]) {
        this.sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          this.sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      near.pipe(far).pipe(near);
    });
  }

  // With this argument the browser connects to the proxy instead.
  argument(port) {
    return `--host-resolver-rules=MAP 127.0.0.1:${port} 127.0.0.1:${this.server.address().port}`;
  }

  cut() {
    this.isCut = true;
    for (const socket of this.sockets) socket.destroy();
  }

  mend() {
    this.isCut = false;
  }

  async close() {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
