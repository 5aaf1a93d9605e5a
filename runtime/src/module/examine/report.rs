//! What `gantry module check` prints for people.

use std::fmt;

use super::{Examined, Sample};

impl fmt::Display for Examined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.manifest;
        writeln!(f, "{} {} by {}", m.name, m.version, m.vendor)?;
        write!(f, "{}", self.checked)?;
        for (index, import) in self.imports.iter().enumerate() {
            writeln!(f, "{:<12}{import}", if index == 0 { "imports" } else { "" })?;
        }
        writeln!(f, "granted     {}", or_nothing(&self.granted))?;
        if !self.denied.is_empty() {
            writeln!(f, "denied      {} (--grant, or [grants] of a site's configuration)", self.denied.join(", "))?;
        }
        self.samples.iter().try_for_each(|sample| write!(f, "{sample}"))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning     {}: {}", warning.code, warning.text))?;
        match self.warnings.len() {
            0 => writeln!(f, "nothing that a hospital would question"),
            1 => writeln!(f, "1 thing that a hospital would question"),
            more => writeln!(f, "{more} things that a hospital would question"),
        }
    }
}

fn or_nothing(list: &[String]) -> String {
    if list.is_empty() { "nothing".into() } else { list.join(", ") }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run         on {}: {} in {:.0} ms", self.study, self.outcome, self.milliseconds)?;
        if let Some(error) = &self.error {
            return writeln!(f, "  error     {error}");
        }
        if !self.findings.is_empty() {
            writeln!(f, "  found     {}", self.findings.join("; "))?;
        }
        let Some(used) = &self.used else { return Ok(()) };
        let phases: Vec<_> = self.phases.iter().map(|p| format!("{} {:.0}", p.name, p.milliseconds)).collect();
        writeln!(f, "  phases    {} ms", phases.join(", "))?;
        writeln!(
            f,
            "  analysis  decoding {:.0}, loading {:.0}, models {:.0}, volumes {:.0}, the rest {:.0} ms",
            // A sum of nothing is -0.
            used.decode_ms + 0.0,
            used.load_ms + 0.0,
            used.inference_ms + 0.0,
            used.operations_ms + 0.0,
            used.module_ms + 0.0
        )?;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (host, guest) = (mib(used.host_memory_peak_bytes), mib(used.guest_memory_peak_bytes));
        writeln!(f, "  memory    {host} MiB of voxels and tensors, {guest} MiB in the guest")?;
        let calls = used.calls.iter().map(|(interface, calls)| format!("{interface} {calls}"));
        let models = used.model_calls.iter().map(|(model, calls)| format!("model {model} {calls}"));
        writeln!(f, "  calls     {}", calls.chain(models).collect::<Vec<_>>().join(", "))?;
        if let Some(same) = self.deterministic {
            writeln!(f, "  again     {}", if same { "the same, to the byte" } else { "NOT the same" })?;
        }
        Ok(())
    }
}
