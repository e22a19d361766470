//! Chromium without a screen: what it says of a page, what it asks of the network, what it paints.
//!
//! `scripts/page-deps.sh` installs it. Every request goes to a proxy of this module's own, which answers none and
//! writes down what was asked.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::page::png::Picture;
use crate::rig::dray::{Dray, Run};
use crate::rig::folder;

const TIME_MAX: Duration = Duration::from_secs(90);

/// The reader's choice of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Dark,
    Light,
}

/// What the browser asks of its maker whatever page it shows.
const ITS_OWN: [&str; 3] = ["accounts.google.com", "clients2.google.com", "update.googleapis.com"];

/// Appended to a copy of a page whose policy was taken off: measures what is seen, and writes it into the page.
const MEASURE: &str = r#"<script>
addEventListener('load', () => {
  const seen = [...document.querySelectorAll('[data-plot]')].map(plot => {
    const svg = [...plot.querySelectorAll('.plot svg')].map(svg => svg.getBoundingClientRect());
    const shown = svg.filter(box => 0 < box.width && 0 < box.height);
    return { name: plot.dataset.plot, shown: shown.length, width: shown[0]?.width ?? 0, height: shown[0]?.height ?? 0 };
  });
  const style = getComputedStyle(document.body);
  const quiet = getComputedStyle(document.querySelector('figcaption') ?? document.body);
  const text = document.querySelector('.plot svg text');
  const root = document.documentElement;
  const found = { title: document.title, plots: seen, scripts: document.scripts.length - 1, overflow: root.scrollWidth - root.clientWidth,
    paper: style.backgroundColor, ink: style.color, quiet: quiet.color, plot: text ? getComputedStyle(text).fill : style.color };
  const note = document.createElement('pre');
  note.id = 'measured';
  note.textContent = JSON.stringify(found);
  document.body.append(note);
});
</script>"#;

/// What a page looks like to its reader.
pub(crate) struct Seen {
    pub(crate) measured: Value,
    /// What the page said on the console.
    pub(crate) console: Vec<String>,
    /// What it asked of the network.
    pub(crate) asked: Vec<String>,
}

/// Opens `page` as it is: its console and its requests.
pub(crate) fn open(page: &Path) -> (Vec<String>, Vec<String>) {
    let (run, asked) = run(page, &["--dump-dom", "--virtual-time-budget=2000"]);
    (console(&run), asked)
}

/// Opens `page` and measures it, on a screen of `width`.
pub(crate) fn look(page: &Path, width: u32, scheme: Scheme) -> Seen {
    let (console, asked) = open(page);
    let html = fs::read_to_string(page).expect("the page");
    let policy = html.find("<meta http-equiv=\"Content-Security-Policy\"").expect("a policy");
    let end = policy + html[policy..].find('>').expect("its end") + 1;
    let around = folder();
    let copy = around.path().join("measured.html");
    fs::write(&copy, format!("{}{}{MEASURE}", &html[..policy], &html[end..])).expect("write the copy");
    let (run, _) = run(&copy, &["--dump-dom", "--virtual-time-budget=2000", &window(width), scheme.flag()]);
    let dom =
        run.stdout.split_once("<pre id=\"measured\">").unwrap_or_else(|| panic!("not measured: {}", run.stderr)).1;
    let text =
        dom.split_once("</pre>").expect("its end").0.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    Seen { measured: serde_json::from_str(&text).expect("JSON"), console, asked }
}

/// Paints `page`.
pub(crate) fn paint(page: &Path, width: u32, scheme: Scheme) -> Picture {
    let around = folder();
    let picture = around.path().join("page.png");
    let flag = format!("--screenshot={}", picture.display());
    let (run, _) = run(page, &[&flag, "--hide-scrollbars", &window(width), scheme.flag()]);
    let bytes = fs::read(&picture).unwrap_or_else(|error| panic!("{error}: {}", run.stderr));
    if let Some(keep) = option_env!("DRAY_KEEP_PAGES") {
        fs::write(Path::new(keep).join(format!("{width}-{scheme:?}.png")), &bytes).expect("keep the picture");
    }
    Picture::read(&bytes)
}

fn window(width: u32) -> String {
    format!("--window-size={width},2400")
}

impl Scheme {
    fn flag(self) -> &'static str {
        match self {
            Self::Dark => "--blink-settings=preferredColorScheme=0",
            Self::Light => "--blink-settings=preferredColorScheme=1",
        }
    }
}

fn run(page: &Path, flags: &[&str]) -> (Run, Vec<String>) {
    let (proxy, asked) = proxy();
    let profile = folder();
    let mut args: Vec<OsString> = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
        "--proxy-bypass-list=<-loopback>",
    ]
    .map(OsString::from)
    .to_vec();
    args.push(format!("--proxy-server={proxy}").into());
    args.push(format!("--user-data-dir={}", profile.path().display()).into());
    args.extend(flags.iter().map(OsString::from));
    args.push(format!("file://{}", page.display()).into());
    let run = Dray::program("/usr/bin/chromium", args).within(TIME_MAX).run();
    run.assert_code(0);
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (run, asked)
}

fn console(run: &Run) -> Vec<String> {
    run.stderr.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect()
}

/// A proxy that refuses everything but remembers it, what the browser asks for itself left out.
fn proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let shared = asked.clone();
    // It ends with the test's process; until then it waits.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut block = [0; 1024];
                stream.set_read_timeout(Some(TIME_MAX)).expect("a timeout");
                let length = stream.read(&mut block).unwrap_or(0);
                let text = String::from_utf8_lossy(&block[..length]);
                let line = text.lines().next().unwrap_or_default().to_owned();
                let host = line.split(' ').nth(1).unwrap_or_default();
                let host = host.split_once("://").map_or(host, |(_, rest)| rest);
                let host = host.split(['/', ':']).next().unwrap_or_default();
                if !line.is_empty() && !ITS_OWN.contains(&host) {
                    shared.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
            });
        }
    });
    (address, asked)
}
