//! Who is let in, who is told, and what goes along a redirect or through a proxy.

use super::Went;
use super::between::{Between, Fault};
use super::canary::{Trial, secrets};
use super::site::{Lists, Site, canary};
use crate::rig::oracle::{Content, Expected, MIB};

/// Files of the pull whose credentials end, and bytes of each: several requests for each.
const FILES: usize = 16;
const FILE_BYTES: u64 = 3 * MIB;

/// Requests for bytes that are answered before the end: as many as there are connections. The first question of each to
/// a server that redirects is no renewal, and would be counted as one if it came after the end.
const GOOD_REQUESTS: usize = 8;

pub(crate) fn denied_exits_4(site: &Site) -> Went {
    let content = Content::new(1, 10);
    let place = (site.open)(&[("m/weights", &content)]);
    if place.lists() == Lists::Nothing {
        return Went::Cannot;
    }
    let denial = place.denial();
    place.front().judge(move |_| Some(denial.clone()));
    let trial = Trial::new();
    let run = trial.pull(&*place, "m", &[]);
    let line = run.assert_fails(4);
    assert!(line.contains(place.credentials()), "{} is not named: {line}", place.credentials());
    trial.assert_nothing_published();
    assert!(place.front().asked().len() <= 8, "a handful of requests: {}", place.front().asked().len());
    Went::Well
}

pub(crate) fn denied_bytes_exit_4(site: &Site) -> Went {
    let content = Content::new(1, 10 * MIB);
    let place = (site.open)(&[("m/weights", &content)]);
    let denial = place.denial();
    place.data().judge(move |asked| asked.wants_bytes().then(|| denial.clone()));
    let trial = Trial::new();
    let run = trial.pull(&*place, "m/weights", &[]);
    let line = run.assert_fails(4);
    assert!(line.contains(place.credentials()), "{} is not named: {line}", place.credentials());
    trial.assert_nothing_published();
    assert!(place.data().asked().len() <= 24, "a handful of requests: {}", place.data().asked().len());
    Went::Well
}

/// Many files, several requests for each, one end of the credentials: it is renewed once for all of them.
pub(crate) fn expired_credentials_are_renewed_once(site: &Site) -> Went {
    let content = Content::new(1, FILE_BYTES);
    let large = Content::new(2, 96 * MIB);
    let names: Vec<String> = (0..FILES).map(|number| format!("m/{number:02}")).collect();
    let mut objects: Vec<_> = names.iter().map(|name| (name.as_str(), &content)).collect();
    objects.push(("m/weights", &large));
    let place = (site.open)(&objects);
    let Some(expiring) = place.expiring(GOOD_REQUESTS) else { return Went::Cannot };
    let trial = Trial::new();
    let dray = (expiring.pull)(&trial.dest());
    let run = trial.logged(dray).args(["--connections", "8"]).run();
    trial.assert_silent(&*place, &run, &expiring.secrets);
    run.assert_sealed();
    let asked: Vec<_> = place
        .data()
        .asked()
        .iter()
        .map(|asked| format!("{} {} {}", asked.method, asked.target, asked.header("range")))
        .collect();
    assert_eq!(
        (expiring.renewals)(),
        1,
        "one request to the issuer for all who were refused: {asked:#?}\n{}",
        run.stderr
    );
    Went::Well
}

/// Bytes are redirected to another port: it is told no secret, whatever becomes of the pull.
pub(crate) fn a_redirect_takes_no_secret_along(site: &Site) -> Went {
    let content = Content::new(1, 2 * MIB);
    let place = (site.open)(&[("m/weights", &content)]);
    let elsewhere = Between::alone(|_| None);
    let there = elsewhere.url("/elsewhere");
    place.data().judge(move |asked| asked.wants_bytes().then(|| Fault::redirect(&there)));
    let trial = Trial::new();
    let run = trial.pull(&*place, "m/weights", &[]);
    assert!([3, 6, 7, 8].contains(&run.code()), "{}", run.last_line());
    trial.assert_nothing_published();
    let asked = elsewhere.asked();
    assert!(!asked.is_empty() || run.code() == 6, "it was asked, or refused by name: {}", run.last_line());
    for asked in &asked {
        for secret in secrets(&*place) {
            assert!(!asked.everything().contains(&secret), "{secret} went along: {asked:?}");
        }
    }
    Went::Well
}

pub(crate) fn a_redirect_to_the_metadata_is_refused(site: &Site) -> Went {
    let content = Content::new(1, 2 * MIB);
    for location in ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd"] {
        let place = (site.open)(&[("m/weights", &content)]);
        place.data().judge(move |asked| asked.wants_bytes().then(|| Fault::redirect(location)));
        let trial = Trial::new();
        trial.pull(&*place, "m/weights", &[]).assert_fails(6);
        trial.assert_nothing_published();
    }
    Went::Well
}

/// Everything goes through a proxy with a login, which nobody behind it is told.
pub(crate) fn a_proxys_login_stays_with_it(site: &Site) -> Went {
    let content = Content::new(1, 2 * MIB);
    let place = (site.open)(&[("m/weights", &content)]);
    let proxy = Between::alone(|asked| {
        let known = !asked.header("proxy-authorization").is_empty();
        (!known).then(|| Fault::status(407, ""))
    });
    let password = canary("proxy");
    let trial = Trial::new();
    let dray = trial.dray(&*place, "m/weights");
    let run = dray.env("HTTP_PROXY", format!("http://someone:{password}@{}", proxy.host())).run();
    let asked = proxy.asked();
    let shown = asked.first().map(|asked| asked.header("proxy-authorization").to_owned()).unwrap_or_default();
    let shown = shown.rsplit(' ').next().unwrap_or_default().to_owned();
    assert!(!shown.is_empty(), "the proxy was asked with a login");
    trial.assert_silent(&*place, &run, &[password.clone(), shown.clone()]);
    run.assert_sealed();
    Expected::of([("weights", &content)]).assert_sealed(&trial.dest());
    for asked in place.front().asked().iter().chain(&place.data().asked()) {
        let everything = asked.everything();
        assert!(!everything.contains(&password) && !everything.contains(&shown), "the login went on: {asked:?}");
    }
    Went::Well
}
