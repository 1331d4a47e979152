//! Who may see the page.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use super::browser::Dashboard;
use crate::server::Server;

const POLICY: &str = "content-security-policy: default-src 'none'; base-uri 'none'; frame-ancestors 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'\r\n";

#[test]
fn the_token_opens_the_page_once_and_becomes_a_cookie_that_no_script_and_no_other_site_has() {
    let server = Server::with("dash-token", Vec::new());
    let page = Dashboard::start(&server, &[]);
    let host = page.host();
    let without = page.send("GET", "/", &[("host", &host)]);
    assert_eq!(without.code, 403);
    assert!(without.body.contains("Open that address"), "{without:?}");
    let head = page.send("HEAD", &page.entrance, &[("host", &host)]);
    assert_eq!(head.code, 403, "{head:?}");

    let entered = page.send("GET", &page.entrance, &[("host", &host)]);
    assert_eq!(entered.code, 303, "{entered:?}");
    assert!(entered.head.contains("\r\nlocation: /\r\n"), "{entered:?}");
    let attributes = "; path=/; httponly; samesite=strict\r\n";
    assert!(entered.head.contains(attributes), "{entered:?}");
    let cookie = entered.head.split("set-cookie: ").nth(1).expect("a cookie");
    let cookie = cookie.split(';').next().expect("a value");

    let again = page.send("GET", &page.entrance, &[("host", &host)]);
    assert_eq!(again.code, 403);
    assert!(again.body.contains("was used before"), "{again:?}");
    assert_eq!(page.get(cookie, "/").code, 200);
    assert_eq!(page.get(&format!("{cookie}0"), "/").code, 403);
    assert_eq!(page.get(&format!("x{cookie}"), "/").code, 403);
}

#[test]
fn another_host_or_origin_is_refused_whatever_it_has() {
    let server = Server::with("dash-foreign", Vec::new());
    let page = Dashboard::start(&server, &[]);
    let cookie = page.enter();
    let (host, cookie) = (page.host(), ("cookie", cookie.as_str()));
    let localhost = format!("localhost:{}", page.port);
    let ours = format!("http://{host}");
    for path in ["/", "/live/", "/page.css", "/opj/shop/web"] {
        for headers in [
            &[cookie][..],
            &[cookie, ("host", "evil.example")],
            &[cookie, ("host", "127.0.0.1")],
            &[cookie, ("host", &host), ("origin", "http://evil.example")],
            &[cookie, ("host", &host), ("origin", "null")],
        ] {
            let answer = page.send("GET", path, headers);
            assert_eq!(answer.code, 403, "{path} {headers:?}");
        }
    }
    for headers in [
        [cookie, ("host", &host), ("origin", &ours)],
        [cookie, ("host", &localhost), ("accept", "*/*")],
    ] {
        assert_eq!(page.send("GET", "/", &headers).code, 200, "{headers:?}");
    }
}

#[test]
fn every_answer_lets_the_browser_load_from_this_server_only() {
    let server = Server::with("dash-policy", Vec::new());
    let page = Dashboard::start(&server, &[]);
    let refused = page.send("GET", "/", &[("host", &page.host())]);
    let host = page.host();
    let entered = page.send("GET", &page.entrance, &[("host", &host)]);
    let cookie = entered.head.split("set-cookie: ").nth(1).expect("a cookie");
    let cookie = cookie.split(';').next().expect("a value").to_owned();
    let mut answers = vec![(403, refused), (303, entered)];
    let table = [
        ("/", 200),
        ("/page.css", 200),
        ("/graph.css", 200),
        ("/page.js", 200),
        ("/icon.svg", 200),
        ("/nothing", 404),
    ];
    answers.extend(table.map(|(path, code)| (code, page.get(&cookie, path))));
    answers.push((405, page.post(&cookie, "/", "")));
    let unproven = page.send("POST", "/", &[("host", &host), ("cookie", &cookie)]);
    answers.push((403, unproven));
    for (code, answer) in answers {
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.head.contains(POLICY), "{answer:?}");
        for header in [
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: same-origin\r\n",
            "cache-control: no-store\r\n",
        ] {
            assert!(answer.head.contains(header), "{header}: {answer:?}");
        }
    }
    let html = page.get(&cookie, "/").body;
    for forbidden in ["style=", "<style", " onload", "javascript:", "//"] {
        assert!(!html.contains(forbidden), "{forbidden}: {html}");
    }
}

#[test]
fn the_page_listens_on_loopback_only_and_says_when_its_port_is_taken() {
    let server = Server::with("dash-port", Vec::new());
    let page = Dashboard::start(&server, &[]);
    assert!(TcpStream::connect(("127.0.0.1", page.port)).is_ok());
    // An address of this machine too, which a server on all addresses would have.
    assert!(TcpStream::connect(("127.0.0.2", page.port)).is_err());

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let (code, out, err) = server.run(&["dashboard", "--no-open", "--port", &port]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let expected = format!("port {port} is taken by another program: choose another --port");
    assert!(err.contains(&expected), "{err}");
    drop(taken);
    let page = Dashboard::start(&server, &["--port", &port]);
    assert_eq!(page.port.to_string(), port);
}

#[test]
fn the_desktop_opens_the_printed_address_and_without_one_the_command_says_so() {
    let server = Server::with("dash-open", Vec::new());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dash-open");
    fs::create_dir_all(&folder).expect("a folder");
    let (program, opened) = (folder.join("xdg-open"), folder.join("opened"));
    let _ = fs::remove_file(&opened);
    let script = format!("#!/bin/sh\necho \"$1\" > {}\n", opened.display());
    fs::write(&program, script).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can run");
    let mut command = server.command(&["dashboard"]);
    command.env("PATH", &folder).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the command runs");
    let begin = Instant::now();
    let mut address = String::new();
    while !address.ends_with('\n') && begin.elapsed() < Duration::from_mins(1) {
        address = fs::read_to_string(&opened).unwrap_or_default();
        std::thread::yield_now();
    }
    child.kill().expect("it serves");
    let output = child.wait_with_output().expect("it ends");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.lines().next(), Some(address.trim()), "{printed}");

    let mut command = server.command(&["dashboard"]);
    command
        .env("PATH", folder.join("empty"))
        .stderr(Stdio::piped());
    let mut child = command
        .stdout(Stdio::null())
        .spawn()
        .expect("the command runs");
    let mut said = String::new();
    let stderr = child.stderr.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut said).expect("a line");
    child.kill().expect("it serves");
    child.wait().expect("it ends");
    assert!(said.contains("open the address yourself"), "{said}");
}
