//! The machine: ports, clock, devices, codecs, files.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::Check;
use crate::inference::processors;
use crate::ingest::dimse::ARRIVING_MORE;

pub(super) fn port(name: &'static str, address: SocketAddr) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} can be listened on")),
        Err(e) if e.kind() == ErrorKind::AddrInUse => Check::warn(
            name,
            format!("{address} is in use"),
            "fine when it is this node that runs; else take another port",
        ),
        Err(e) => Check::fail(
            name,
            format!("{address}: {e}"),
            "take an address of this machine and a port from 1024 on, or give the service CAP_NET_BIND_SERVICE",
        ),
    }
}

/// Wall against monotonic clock for a moment, and whether somebody keeps the former right.
pub(super) fn clock() -> Check {
    const NAME: &str = "clock";
    let (wall, steady) = (SystemTime::now(), Instant::now());
    std::thread::sleep(Duration::from_millis(100));
    let elapsed = wall.elapsed().map(|e| e.as_secs_f64()).unwrap_or(-1.0);
    let apart_ms = (elapsed - steady.elapsed().as_secs_f64()).abs() * 1000.0;
    if apart_ms > 20.0 {
        let found = format!("the wall clock jumped by {apart_ms:.0} ms within 100 ms");
        return Check::warn(NAME, found, "let one service alone set the clock, and let it slew");
    }
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Check::ok(NAME, "set by systemd-timesyncd");
    }
    let services = ["/run/chrony/chronyd.pid", "/run/chrony/chronyd.sock", "/run/ntpd.pid", "/var/run/ntpd.pid"];
    match services.iter().find(|file| Path::new(file).exists()) {
        Some(file) => Check::ok(NAME, format!("a time service runs ({file})")),
        None => Check::warn(
            NAME,
            "no time service was found",
            "run chrony or systemd-timesyncd: audit and results have times",
        ),
    }
}

/// What the kernel and the driver say is there.
pub(super) fn devices() -> Check {
    let nvidia = nvidia_smi().unwrap_or_else(nvidia_proc);
    let others = others_on_pci();
    let all: Vec<_> =
        std::iter::once(format!("cpu ({} processors)", processors())).chain(nvidia).chain(others).collect();
    Check::ok("devices", if all.len() == 1 { format!("{}; no GPU", all[0]) } else { all.join("; ") })
}

/// Names and memory from the driver's own tool, where there is a driver.
fn nvidia_smi() -> Option<Vec<String>> {
    let there = Path::new("/proc/driver/nvidia/version").exists();
    let asked = there.then(|| {
        std::process::Command::new("nvidia-smi")
            .args(["--query-gpu=index,name,memory.total", "--format=csv,noheader"])
            .output()
    })?;
    let text = asked.ok().filter(|done| done.status.success())?.stdout;
    let lines = String::from_utf8_lossy(&text).lines().map(crate::printable).collect::<Vec<_>>();
    (!lines.is_empty()).then(|| lines.iter().map(|line| format!("gpu {line}")).collect())
}

/// Names as the driver tells them to everybody.
fn nvidia_proc() -> Vec<String> {
    let folders = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut gpus: Vec<_> = folders
        .filter_map(|gpu| nvidia_information(&std::fs::read_to_string(gpu.path().join("information")).ok()?))
        .collect();
    gpus.sort();
    gpus
}

fn nvidia_information(text: &str) -> Option<String> {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':').map(str::trim));
    let minor = field("Device Minor").unwrap_or("of unknown number");
    Some(format!("gpu {}, {}", crate::printable(minor), crate::printable(field("Model")?)))
}

/// Display controllers of AMD and Intel, by their numbers.
fn others_on_pci() -> Vec<String> {
    let devices = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten().map(|device| device.path());
    let read = |device: &Path, file: &str| {
        std::fs::read_to_string(device.join(file)).map(|text| text.trim().trim_start_matches("0x").to_owned())
    };
    let mut gpus: Vec<_> = devices
        .filter_map(|device| {
            let (class, vendor) = (read(&device, "class").ok()?, read(&device, "vendor").ok()?);
            let maker = match vendor.as_str() {
                "8086" => "Intel",
                "1002" => "AMD",
                _ => return None,
            };
            let number = read(&device, "device").ok()?;
            class.starts_with("03").then(|| format!("gpu of {maker}, {vendor}:{number}"))
        })
        .collect();
    gpus.sort();
    gpus
}

pub(super) fn codecs() -> Check {
    let (decoded, kept): (Vec<_>, Vec<_>) =
        TransferSyntaxRegistry.iter().map(|ts| ts.uid()).partition(|uid| crate::study::decodes(uid));
    let found = format!("decoded: {}; kept as received, not decoded: {}", sorted(decoded), sorted(kept));
    Check::ok("transfer syntaxes", found)
}

fn sorted(mut uids: Vec<&str>) -> String {
    uids.sort_unstable();
    uids.join(" ")
}

/// An association has a socket, four descriptors of its event loop, and a file when it sends. As many, and some more, may have
/// connected and not associated yet.
pub(super) fn files(associations_max: usize) -> Check {
    const NAME: &str = "file descriptors";
    let need = 6 * (2 * associations_max + ARRIVING_MORE) as u64 + 256;
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        Some(limit) if limit < need => Check::warn(
            NAME,
            format!("at most {limit}, and dimse.associations_max = {associations_max} may need {need}"),
            "raise LimitNOFILE of the service, or ulimit -n",
        ),
        Some(limit) => Check::ok(NAME, format!("at most {limit}")),
        None => Check::ok(NAME, "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_driver_tells_what_there_is() {
        let text = "Model: \t\t NVIDIA H100 PCIe\nIRQ:   \t\t 38\nDevice Minor: \t 1\n";
        assert_eq!(nvidia_information(text).as_deref(), Some("gpu 1, NVIDIA H100 PCIe"));
        assert_eq!(nvidia_information("IRQ: 1\n"), None);
    }

    #[test]
    fn a_port_in_use_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert_eq!(port("dimse.listen", listener.local_addr().expect("an address")).state, State::Warn);
    }
}
