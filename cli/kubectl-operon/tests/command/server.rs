//! An API server that gives prepared answers, and a kubeconfig for it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

/// An answer to requests that begin so: `GET /apis/…`; what follows a `*` is somewhere in the rest, for example in the body.
/// [`LOST`] and [`LATE`] are none.
pub(crate) type Answer = (&'static str, u16, Value);

/// In place of a code: the connection ends without an answer.
pub(crate) const LOST: u16 = 0;

/// In place of a code: there is no answer while the test runs.
pub(crate) const LATE: u16 = 1;

/// The server. It ends with the test program.
pub(crate) struct Server {
    kubeconfig: PathBuf,
    answers: Arc<Mutex<Vec<Answer>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server with these answers; the first that fits is given. Other requests get 404, as for a kind that
    /// is not served.
    pub(crate) fn with(name: &str, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = Self {
            answers: Arc::new(Mutex::new(answers)),
            ..Self::at(name, port)
        };
        let (answers, requests) = (Arc::clone(&server.answers), Arc::clone(&server.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&requests));
                std::thread::spawn(move || {
                    let answers = answers.lock().expect("no test panics with it").clone();
                    answer(stream, &answers, &seen);
                });
            }
        });
        server
    }

    /// Gives other answers from now on.
    pub(crate) fn change(&self, answers: Vec<Answer>) {
        *self.answers.lock().expect("no test panics with it") = answers;
    }

    /// A kubeconfig for a server that listens on this port already.
    pub(crate) fn at(name: &str, port: u16) -> Self {
        Self {
            kubeconfig: kubeconfig(name, port, &json!({})),
            answers: Arc::default(),
            requests: Arc::default(),
        }
    }

    /// The file with the address of the server.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The command with these arguments, for this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig);
        command
    }

    /// Runs the command: its exit code, standard output and standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        texts(&self.command(arguments).output().expect("the command runs"))
    }

    /// The requests so far, each with the headers of impersonation and the body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests
            .lock()
            .expect("no test panics with it")
            .clone()
    }
}

/// The command without arguments.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kubectl-operon"))
}

/// A kubeconfig for an API server at this port, with this user.
pub(crate) fn kubeconfig(name: &str, port: u16, user: &Value) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
    });
    std::fs::write(&path, config.to_string()).expect("a kubeconfig");
    path
}

/// What a command left.
pub(crate) fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn answer(stream: TcpStream, answers: &[Answer], seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    let request = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let (mut length, mut noted) = (0, request.clone());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        let lower = line.trim().to_lowercase();
        if let Some(number) = lower.strip_prefix("content-length: ") {
            length = number.parse().unwrap_or(0);
        }
        if lower.starts_with("impersonate") {
            noted = format!("{noted}\n{lower}");
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    noted = format!("{noted}\n{}", String::from_utf8_lossy(&body));
    let whole = noted.clone();
    seen.lock().expect("no test panics with it").push(noted);
    let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
        "message": "the server could not find the requested resource"});
    let found = answers.iter().find(|(wanted, ..)| {
        let (begin, inside) = wanted.split_once('*').unwrap_or((wanted, ""));
        request.starts_with(begin) && whole.contains(inside)
    });
    let (status, body) = found.map_or((404, &missing), |(_, status, body)| (*status, body));
    match status {
        LOST => return,
        LATE => loop {
            std::thread::park();
        },
        _ => {}
    }
    // Events of a watch are lines.
    let text = match body {
        Value::Array(events) => {
            let lines = events.iter().map(Value::to_string);
            lines.collect::<Vec<_>>().join("\n") + "\n"
        }
        other => other.to_string(),
    };
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\n");
    let _ = write!(
        reader.get_mut(),
        "{head}content-length: {}\r\n\r\n{text}",
        text.len()
    );
}
