//! Attempts to reach beyond the component by way of WASI, and what came of each.

use std::{
    env, fs,
    io::{self, Read as _},
    net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::guest::bindings::exports::operon::action::handler::{Job, Operation};

/// Every attempt, with what came of it as extra-info. The parameters of the job are the address of a server.
pub(crate) fn operate(job: &Job) -> Operation {
    let server = job.parameters.as_str();
    let mut input = Vec::new();
    let attempts = [
        ("read-a-file", came(fs::read_to_string("/etc/passwd"))),
        (
            "write-a-file",
            came(fs::write("/tmp/operon-hostile-guest", "written")),
        ),
        ("list-the-root", came(fs::read_dir("/"))),
        ("list-a-folder", came(fs::read_dir("."))),
        ("connect", came(TcpStream::connect(server))),
        ("listen", came(TcpListener::bind("127.0.0.1:0"))),
        ("send-a-datagram", came(send(server))),
        ("look-up-a-name", came("localhost:80".to_socket_addrs())),
        ("run-a-program", came(Command::new("sh").spawn())),
        (
            "start-a-thread",
            came(thread::Builder::new().spawn(|| ()).map(drop)),
        ),
        ("environment", env::vars_os().count().to_string()),
        ("arguments", env::args_os().count().to_string()),
        (
            "standard-input",
            io::stdin()
                .read_to_end(&mut input)
                .unwrap_or_default()
                .to_string(),
        ),
        (
            "wall-clock",
            (SystemTime::now() > SystemTime::UNIX_EPOCH + Duration::from_hours(24)).to_string(),
        ),
        (
            "steady-clock",
            (Instant::now() <= Instant::now()).to_string(),
        ),
    ];
    let extra_info = attempts.map(|(name, came)| (name.to_owned(), came));
    Operation {
        requirements: Vec::new(),
        limit: None,
        effects: Vec::new(),
        extra_info: extra_info.into(),
        unfinished: None,
        extra: Vec::new(),
    }
}

fn send(server: &str) -> io::Result<usize> {
    UdpSocket::bind("127.0.0.1:0")?.send_to(b"datagram", server)
}

fn came<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "allowed".to_owned(),
        Err(error) => format!("refused: {error}"),
    }
}
