//! TLS alone: records and handshakes between two ends in one thread, without a socket.
//!
//! In: bounds of time. Out: a row for each cipher and each way to read its records, and handshakes a second.
//! Holds: only the client's side is timed, as only it is a downloader's; what was decrypted is what was encrypted.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use super::records::{Next, Records};
use super::{Figure, FloorReport, fill_with_noise, row, thread_cpu};
use crate::bench::Stop;
use crate::bench::{Row, Sample, Work, machine::Machine};
use crate::error::Error;
use crate::units::PIECE_BYTES;

/// The row of handshakes.
const HANDSHAKES: &str = "full handshakes";

/// The command of every row.
const COMMAND: &str = "dray bench tls";

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct TlsWork {
    /// Runs of each row, in turn with the others.
    pub rounds: u32,
    /// Time of one run of one row.
    pub time: Duration,
}

/// How a client reads records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Through rustls' own buffer, 4 KiB at a time, as an ordinary stream does.
    Stream,
    /// From a buffer of our own, as the minimal lane does.
    InPlace,
}

const READINGS: [(&str, Reading); 2] = [("in place", Reading::InPlace), ("as a stream", Reading::Stream)];

/// Measures ciphers and handshakes.
///
/// # Errors
/// [`Error::Interrupted`] when asked to stop; [`Error::Internal`] when TLS cannot be set up.
pub fn run(work: TlsWork, stop: &Stop) -> Result<FloorReport, Error> {
    let machine = Machine::read(None);
    let suites = [
        ("AES-128-GCM", ring::cipher_suite::TLS13_AES_128_GCM_SHA256),
        ("AES-256-GCM", ring::cipher_suite::TLS13_AES_256_GCM_SHA384),
        ("ChaCha20-Poly1305", ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
    ];
    let mut contenders: Vec<(Ends, Reading, Row)> = Vec::new();
    for (cipher, suite) in suites {
        for (way, reading) in READINGS {
            let row = row(&format!("{cipher}, {way}"), COMMAND, "none");
            contenders.push((Ends::of(suite)?, reading, row));
        }
    }
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..work.rounds {
        for (ends, reading, row) in &mut contenders {
            row.samples.push(match reading {
                Reading::Stream => ends.records(&mut Stream::new(ends)?, work.time, stop)?,
                Reading::InPlace => ends.records(&mut InPlace::new(ends)?, work.time, stop)?,
            });
        }
        let (ends, ..) = &contenders[0];
        let (rate, cost) = ends.handshakes(work.time, stop)?;
        rates.push(rate);
        costs.push(cost);
    }
    let moved = Work { bytes: PIECE_BYTES, cache: "warm".to_owned(), ..Work::default() };
    let rows = contenders.into_iter().map(|(_, _, row)| row).chain([row(HANDSHAKES, COMMAND, "none")]).collect();
    let mut report = FloorReport::new(machine, moved, work.rounds, rows);
    report.figures.extend(Figure::of(HANDSHAKES, "both ends in one thread", "1/s", rates));
    report.figures.extend(Figure::of(HANDSHAKES, "client's CPU of one", "s", costs));
    report.notes.push("rates and CPU are the client's: one core that does nothing else".to_owned());
    Ok(report)
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("TLS: {error}"))
}

/// Both ends' settings, for one cipher.
struct Ends {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Ends {
    fn of(suite: SupportedCipherSuite) -> Result<Self, Error> {
        let own = dray_arena::Certificate::of_loopback().map_err(internal)?;
        let certificate = CertificateDer::from(own.certificate);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key));
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).map_err(internal)?;
        let provider = Arc::new(CryptoProvider { cipher_suites: vec![suite], ..ring::default_provider() });
        let versions = &[&rustls::version::TLS13];
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let mut client = client.map_err(internal)?.with_root_certificates(roots).with_no_client_auth();
        client.resumption = Resumption::disabled();
        let server = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let server = server.map_err(internal)?.with_no_client_auth().with_single_cert(vec![certificate], key);
        let mut server = server.map_err(internal)?;
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    fn stream(&self) -> Result<ClientConnection, Error> {
        ClientConnection::new(Arc::clone(&self.client), localhost()?).map_err(internal)
    }

    fn peer(&self) -> Result<ServerConnection, Error> {
        ServerConnection::new(Arc::clone(&self.server)).map_err(internal)
    }

    /// Decrypts pieces for `time` of the client's own.
    fn records(&self, client: &mut dyn Client, time: Duration, stop: &Stop) -> Result<Sample, Error> {
        let mut server = self.peer()?;
        server.set_buffer_limit(None);
        let (mut up, mut down) = (Vec::new(), Vec::new());
        // Until both are done: the client has the last word.
        for _ in 0..8 {
            client.take(&down, &mut [])?;
            down.clear();
            client.send(&mut up)?;
            pass(&mut server, &mut up, &mut down)?;
        }
        let size = usize::try_from(PIECE_BYTES).map_err(internal)?;
        let (mut plain, mut landed) = (vec![0; size], vec![0; size]);
        fill_with_noise(&mut plain, 1);
        let (mut bytes, mut seconds, mut cpu) = (0, Duration::ZERO, Duration::ZERO);
        while seconds < time {
            stop.check()?;
            server.writer().write_all(&plain).map_err(internal)?;
            pass(&mut server, &mut up, &mut down)?;
            let (began, cpu_began) = (Instant::now(), thread_cpu());
            let took = client.take(&down, &mut landed)?;
            cpu += thread_cpu() - cpu_began;
            seconds += began.elapsed();
            down.clear();
            if took != size || landed != plain {
                return Err(internal("what was decrypted is not what was encrypted"));
            }
            bytes += PIECE_BYTES;
        }
        let (seconds, cpu_seconds) = (seconds.as_secs_f64(), cpu.as_secs_f64());
        Ok(Sample { bytes, seconds, synced_seconds: seconds, cpu_seconds, rss_bytes_max: 0 })
    }

    /// Full handshakes for `time`: how many a second, and the client's CPU-seconds of one.
    fn handshakes(&self, time: Duration, stop: &Stop) -> Result<(f64, f64), Error> {
        let (began, mut cpu, mut count) = (Instant::now(), Duration::ZERO, 0.0);
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while began.elapsed() < time {
            stop.check()?;
            let (mut client, mut server) = (Stream { client: self.stream()? }, self.peer()?);
            while client.client.is_handshaking() || server.is_handshaking() {
                let cpu_began = thread_cpu();
                client.take(&down, &mut [])?;
                client.send(&mut up)?;
                cpu += thread_cpu() - cpu_began;
                down.clear();
                pass(&mut server, &mut up, &mut down)?;
            }
            count += 1.0;
        }
        Ok((count / began.elapsed().as_secs_f64(), cpu.as_secs_f64() / count))
    }
}

fn localhost() -> Result<ServerName<'static>, Error> {
    ServerName::try_from("localhost").map_err(internal)
}

/// Gives the server what is on its way to it, and takes what it says.
fn pass(server: &mut ServerConnection, up: &mut Vec<u8>, down: &mut Vec<u8>) -> Result<(), Error> {
    let mut rest = up.as_slice();
    while !rest.is_empty() {
        server.read_tls(&mut rest).map_err(internal)?;
        server.process_new_packets().map_err(internal)?;
    }
    up.clear();
    while server.wants_write() {
        server.write_tls(down).map_err(internal)?;
    }
    Ok(())
}

/// A client's end.
trait Client {
    /// Reads `wire` whole and puts its plaintext into `into`; the bytes of it.
    fn take(&mut self, wire: &[u8], into: &mut [u8]) -> Result<usize, Error>;
    /// What it has to say.
    fn send(&mut self, up: &mut Vec<u8>) -> Result<(), Error>;
}

struct Stream {
    client: ClientConnection,
}

impl Stream {
    fn new(ends: &Ends) -> Result<Self, Error> {
        Ok(Self { client: ends.stream()? })
    }
}

impl Client for Stream {
    fn take(&mut self, mut wire: &[u8], into: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while !wire.is_empty() {
            self.client.read_tls(&mut wire).map_err(internal)?;
            let state = self.client.process_new_packets().map_err(internal)?;
            if state.plaintext_bytes_to_read() != 0 {
                filled += self.client.reader().read(&mut into[filled..]).map_err(internal)?;
            }
        }
        Ok(filled)
    }

    fn send(&mut self, up: &mut Vec<u8>) -> Result<(), Error> {
        while self.client.wants_write() {
            self.client.write_tls(up).map_err(internal)?;
        }
        Ok(())
    }
}

struct InPlace {
    records: Records,
}

impl InPlace {
    fn new(ends: &Ends) -> Result<Self, Error> {
        let client = UnbufferedClientConnection::new(Arc::clone(&ends.client), localhost()?);
        Ok(Self { records: Records::new(client.map_err(internal)?) })
    }
}

impl Client for InPlace {
    fn take(&mut self, mut wire: &[u8], into: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        loop {
            match self.records.next(&mut into[filled..]).map_err(internal)? {
                Next::Took(bytes) => filled += bytes,
                Next::Receive if wire.is_empty() => return Ok(filled),
                Next::Receive => {
                    let room = self.records.room();
                    let fits = room.len().min(wire.len());
                    room[..fits].copy_from_slice(&wire[..fits]);
                    wire = &wire[fits..];
                    self.records.arrived(fits);
                }
                // It goes out with the next `send`.
                Next::Send if wire.is_empty() => return Ok(filled),
                Next::Send => {}
                Next::Closed => return Err(internal("closed")),
            }
        }
    }

    fn send(&mut self, up: &mut Vec<u8>) -> Result<(), Error> {
        up.extend_from_slice(self.records.outgoing());
        self.records.sent();
        Ok(())
    }
}
