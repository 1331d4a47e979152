//! Passes TCP connections on: from the address under which pods know the API server to loopback.
//!
//! Runs inside the node's namespace for as long as the node does; a thread per direction.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result};

/// Listens on `from` and passes every connection on to `to`. Returns only on failure to listen.
pub fn forward(from: SocketAddr, to: SocketAddr) -> Result<()> {
    let listener =
        TcpListener::bind(from).with_context(|| format!("failed to listen on {from}"))?;
    for client in listener.incoming().flatten() {
        thread::spawn(move || {
            // A connection that cannot be passed on is closed: the client sees that and tries again.
            if let Ok(server) = TcpStream::connect(to) {
                let _ = join(&client, &server);
            }
        });
    }
    Ok(())
}

fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let upwards = thread::spawn(move || copy(from_client, to_server));
    copy(server.try_clone()?, client.try_clone()?);
    let _ = upwards.join();
    Ok(())
}

/// Copies until one side ends, then tells the other.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn an_answer_comes_back_after_the_client_has_finished_sending() -> Result<()> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let to = server.local_addr()?;
        thread::spawn(move || -> io::Result<()> {
            let (mut connection, _) = server.accept()?;
            let mut text = String::new();
            connection.read_to_string(&mut text)?;
            connection.write_all(text.to_uppercase().as_bytes())
        });
        // The port is free again once its listener is dropped; no other process takes it meanwhile.
        let from = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        thread::spawn(move || forward(from, to));
        let mut client = loop {
            if let Ok(client) = TcpStream::connect(from) {
                break client;
            }
        };
        client.write_all(b"hello")?;
        client.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        assert_eq!(answer, "HELLO");
        Ok(())
    }
}
