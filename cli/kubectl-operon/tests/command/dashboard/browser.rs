//! The command `dashboard`, and a client that sends what a test says, as no browser does.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::server::Server;

/// The command while it serves. It ends with the test.
pub(crate) struct Dashboard {
    child: Child,
    pub(crate) port: u16,
    /// The path of the printed address, with its token.
    pub(crate) entrance: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Dashboard {
    /// Starts the command for this cluster.
    pub(crate) fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut command = server.command(&[&["dashboard", "--no-open"], arguments].concat());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the command runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the address");
        let address = line
            .trim()
            .strip_prefix("http://127.0.0.1:")
            .unwrap_or_else(|| unreachable!("{line}"));
        let (port, path) = address.split_once('/').expect("a path");
        Self {
            child,
            port: port.parse().expect("a port"),
            entrance: format!("/{path}"),
        }
    }

    /// Sends a request with these headers only.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send_body(method, path, headers, "")
    }

    /// Sends a request with these headers only, and this body.
    pub(crate) fn send_body(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut stream = self.connect(method, path, headers, body);
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let code = head.split(' ').nth(1).expect("a code");
        Answer {
            code: code.parse().expect("a number"),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    fn connect(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let limit = Some(Duration::from_mins(1));
        stream.set_read_timeout(limit).expect("a limit");
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        if !body.is_empty() {
            request.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
        }
        write!(stream, "{request}\r\n{body}").expect("it reads");
        stream
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Uses the token: the cookie.
    pub(crate) fn enter(&self) -> String {
        let answer = self.send("GET", &self.entrance, &[("host", &self.host())]);
        assert_eq!(answer.code, 303, "{answer:?}");
        let cookie = answer.head.split("set-cookie: ").nth(1).expect("a cookie");
        cookie.split(';').next().expect("a value").to_owned()
    }

    /// A page, for a browser that has the cookie.
    pub(crate) fn get(&self, cookie: &str, path: &str) -> Answer {
        self.send("GET", path, &[("host", &self.host()), ("cookie", cookie)])
    }

    /// A form, as a browser that has the cookie sends it from the page.
    pub(crate) fn post(&self, cookie: &str, path: &str, form: &str) -> Answer {
        let (host, origin) = (self.host(), format!("http://{}", self.host()));
        let headers = [
            ("host", &*host),
            ("cookie", cookie),
            ("origin", &origin),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.send_body("POST", path, &headers, form)
    }

    /// The changes of a page, for a browser that has the cookie.
    pub(crate) fn follow(&self, cookie: &str, path: &str) -> Changes {
        let headers = [("host", &*self.host()), ("cookie", cookie)];
        Changes {
            stream: self.connect("GET", &format!("/live{path}"), &headers, ""),
            text: String::new(),
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stream of changes.
pub(crate) struct Changes {
    stream: TcpStream,
    /// What was not looked at.
    text: String,
}

impl Changes {
    /// Reads until a part is sent that has this text, or has not; the part.
    pub(crate) fn until(&mut self, has: bool, text: &str) -> String {
        let begin = Instant::now();
        let mut buffer = vec![0; 65536];
        while begin.elapsed() < Duration::from_mins(1) {
            // A part ends with an empty line. Between them are the lengths of chunks.
            while let Some((part, rest)) = self.text.split_once("\n\n") {
                let part = part.to_owned();
                self.text = rest.to_owned();
                if part.contains("data: ") && part.contains(text) == has {
                    return part;
                }
            }
            let read = self.stream.read(&mut buffer).expect("changes");
            assert!(read > 0, "the stream ended: {}", self.text);
            self.text
                .push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        unreachable!("no part with {text:?} ({has}): {}", self.text);
    }
}
