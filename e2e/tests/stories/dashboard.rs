//! The page of `kubectl operon dashboard`, as a browser gets it: what a job waits for, that a user steers it, and that it goes
//! on.

use std::process::Stdio;

use operon_e2e::{environment, prelude::*};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

/// The command while it serves, and the cookie of a browser that opened its address.
struct Page {
    host: String,
    cookie: String,
    _command: Child,
}

impl Page {
    async fn open(world: &World) -> Result<Self> {
        let mut command = Command::new(environment::kubectl_plugin())
            .args(["dashboard", "--no-open", "--namespace", &world.namespace])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = command.stdout.take().context("no output")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let line = line.context("no address")?;
        let address = line.strip_prefix("http://").context("no address")?;
        let (host, path) = address.split_once('/').context("no path")?;
        let mut page = Self {
            host: host.to_owned(),
            cookie: String::new(),
            _command: command,
        };
        let entered = page.get(&format!("/{path}")).await?;
        let (_, cookie) = entered.split_once("set-cookie: ").context("no cookie")?;
        cookie
            .split(';')
            .next()
            .unwrap_or_default()
            .clone_into(&mut page.cookie);
        Ok(page)
    }

    /// Sends the first line of a request with what a browser adds, and the rest of it.
    async fn send(&self, line: &str, rest: &str) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.host).await?;
        let (host, cookie) = (&self.host, &self.cookie);
        let request = format!(
            "{line} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\nconnection: close\r\n{rest}"
        );
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    }

    async fn request(&self, path: &str) -> Result<TcpStream> {
        self.send(&format!("GET {path}"), "\r\n").await
    }

    async fn get(&self, path: &str) -> Result<String> {
        text(self.request(path).await?).await
    }

    /// Confirms what the question of this page asks: the address to which the browser is sent.
    async fn confirm(&self, path: &str) -> Result<String> {
        let question = self.get(path).await?;
        let token = question.split("name=\"confirmation\" value=\"").nth(1);
        let token = token.and_then(|token| token.split('"').next());
        let form = format!("confirmation={}", token.context(question.clone())?);
        let (host, length) = (&self.host, form.len());
        let rest = format!(
            "origin: http://{host}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
        );
        let answer = text(self.send(&format!("POST {path}"), &rest).await?).await?;
        let to = answer.split("\r\nlocation: ").nth(1);
        let to = to.and_then(|to| to.split("\r\n").next());
        Ok(to.context(answer.clone())?.to_owned())
    }
}

/// Everything that is answered.
async fn text(mut stream: TcpStream) -> Result<String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Reads a stream of changes until it has this text.
async fn until(stream: &mut TcpStream, text: &str) -> Result<()> {
    let mut seen = String::new();
    let mut buffer = vec![0; 65536];
    let read = async {
        while !seen.contains(text) {
            let count = stream.read(&mut buffer).await?;
            ensure!(count > 0, "the stream ended without {text:?}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        Ok(())
    };
    let within = tokio::time::timeout(Duration::from_mins(1), read).await;
    within.with_context(|| format!("no {text:?} within a minute"))?
}

#[tokio::test]
async fn a_user_promotes_a_job_in_a_browser_and_sees_what_it_waits_for_and_that_it_goes_on() {
    story(async |world: &World| {
        let targets = names(&Deployment::of("foo", 1).up(world).await);
        let label = json!({"label": {"key": "checked", "value": "yes"}});
        let held = Job::of("opj", "Check", &targets)
            .parameters(&label)
            .partition(0);
        world.create(&held.object()).await;
        world
            .job_until("opj", "is observed", job::is_observed)
            .await;

        let page = Page::open(world).await.expect("the page opens");
        let promote = format!("/operationjobs/{}/opj/promote", world.namespace);
        let to = page.confirm(&promote).await.expect("the job is promoted");
        let done = page.get(&to).await.expect("the page of the job");
        let says = "<strong>Done:</strong> opj/opj: 1 of 1 targets may start";
        assert!(done.contains(says), "{done}");
        let waits =
            |found: &OperationJob| job::error(found, &targets[0]).reason == "WaitingForLabel";
        world.job_until("opj", "waits for the label", waits).await;

        let overview = page.get("/").await.expect("the overview");
        let path = format!("/operationjobs/{}/opj", world.namespace);
        assert!(overview.contains(&format!("href=\"{path}\"")), "{overview}");
        let object = page.get(&path).await.expect("the page of the job");
        for text in [
            format!("<p>{} of opj/opj has been Processing for ", targets[0]),
            "<p>WaitingForLabel: ".to_owned(),
            format!(
                "<p>Next: kubectl describe pod {} -n {}</p>",
                targets[0], world.namespace
            ),
        ] {
            assert!(object.contains(&text), "{text}: {object}");
        }

        let live = format!("/live{path}");
        let mut changes = page.request(&live).await.expect("the changes");
        until(&mut changes, "<p>WaitingForLabel: ")
            .await
            .expect("the present part");
        let label = json!({"metadata": {"labels": {"checked": "yes"}}});
        world.patch::<Pod>(&targets[0], label).await;
        until(&mut changes, "1 target succeeded")
            .await
            .expect("the change");
    })
    .await;
}
