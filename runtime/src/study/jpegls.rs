//! JPEG-LS (ISO 14495-1): lossless and near-lossless, of 2 to 16 bits, interleaved in any of its three ways.
//!
//! Small enough to be our own, and so safe Rust from the first byte. What a codestream may do that medical images do not
//! (mapping tables, restart intervals, sizes beyond 65535, colour transforms of one vendor) is refused.

use std::ops::Range;

/// What the header of a codestream says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) components: u8,
    /// Bits of a sample.
    pub(super) precision: u8,
    /// Of each component.
    names: Vec<u8>,
    /// Stated thresholds (LSE), 0 where they follow from the precision: MAXVAL, T1, T2, T3, RESET.
    preset: [i32; 5],
    scans: Vec<Scan>,
}

/// One scan.
#[derive(Debug)]
struct Scan {
    /// Which components, in order.
    components: Vec<usize>,
    near: i32,
    interleave: Interleave,
    /// Where its coded data lie.
    coded: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Interleave {
    None,
    Line,
    Sample,
}

/// Reads the marker segments of `data`; `None` where it is no codestream.
pub(super) fn header(data: &[u8]) -> Result<Option<Header>, String> {
    let mut header: Option<Header> = None;
    let mut preset = [0; 5];
    let mut at = if data.starts_with(&[0xFF, 0xD8]) { 2 } else { return Ok(None) };
    while let Some([0xFF, marker, rest @ ..]) = data.get(at..) {
        match marker {
            0xFF => at += 1,
            0xD9 => break,
            _ => {
                let Some([l0, l1]) = rest.first_chunk() else { return Ok(None) };
                let length = usize::from(u16::from_be_bytes([*l0, *l1]));
                let Some(value) = rest.get(2..length) else { return Ok(None) };
                at += 2 + length;
                match marker {
                    0xF7 => header = Some(frame(value)?),
                    0xF8 => preset = presets(value)?,
                    0xDA => {
                        let Some(header) = &mut header else { return Ok(None) };
                        header.preset = preset;
                        let end = at + coded(data.get(at..).unwrap_or_default());
                        header.scans.push(scan(value, &header.names, at..end)?);
                        at = end;
                    }
                    0xDD => return Err("its compressed image has restart intervals".into()),
                    0xE8 if value.starts_with(b"mrfx") && value.get(4) != Some(&0) => {
                        return Err(
                            "its compressed image has a colour transform that the standard does not know".into()
                        );
                    }
                    0xC0..=0xCF => return Err("its compressed image is JPEG and not JPEG-LS".into()),
                    _ => {}
                }
            }
        }
    }
    Ok(header.filter(|header| !header.scans.is_empty()))
}

fn frame(value: &[u8]) -> Result<Header, String> {
    let Some(([precision, y0, y1, x0, x1, components], described)) = value.split_first_chunk::<6>() else {
        return Err("its compressed image has no whole header".into());
    };
    let described: Vec<&[u8]> = described.chunks_exact(3).collect();
    if described.len() != usize::from(*components) || described.iter().any(|c| c[1] != 0x11) {
        return Err("its compressed image has components of different sizes".into());
    }
    if !(2..=16).contains(precision) {
        return Err(format!("its compressed image has {precision} bits a sample"));
    }
    Ok(Header {
        width: u16::from_be_bytes([*x0, *x1]),
        height: u16::from_be_bytes([*y0, *y1]),
        components: *components,
        precision: *precision,
        names: described.iter().map(|c| c[0]).collect(),
        preset: [0; 5],
        scans: Vec::new(),
    })
}

/// LSE of preset parameters.
fn presets(value: &[u8]) -> Result<[i32; 5], String> {
    match value {
        [1, words @ ..] if words.len() == 10 => {
            let mut preset = [0; 5];
            for (to, word) in preset.iter_mut().zip(words.chunks_exact(2)) {
                *to = i32::from(u16::from_be_bytes([word[0], word[1]]));
            }
            Ok(preset)
        }
        _ => Err("its compressed image has a mapping table or an extended size".into()),
    }
}

fn scan(value: &[u8], names: &[u8], coded: Range<usize>) -> Result<Scan, String> {
    let fault = || "its compressed image has a scan that does not fit its header".to_owned();
    let (count, rest) = value.split_first().ok_or_else(fault)?;
    let (selectors, [near, interleave, transform, ..]) =
        rest.split_at_checked(usize::from(*count) * 2).ok_or_else(fault)?
    else {
        return Err(fault());
    };
    let components = selectors.chunks_exact(2).map(|s| match s[1] {
        0 => names.iter().position(|name| *name == s[0]).ok_or_else(fault),
        _ => Err("its compressed image has a mapping table".into()),
    });
    let components = components.collect::<Result<Vec<_>, _>>()?;
    let interleave = match (interleave, components.len()) {
        (_, 1) => Interleave::None,
        (1, 2..) => Interleave::Line,
        (2, 2..) => Interleave::Sample,
        _ => return Err(fault()),
    };
    if *transform != 0 {
        return Err("its compressed image has a point transform".into());
    }
    Ok(Scan { components, near: i32::from(*near), interleave, coded })
}

/// How many bytes come before the next marker: behind 0xFF the highest bit of coded data is 0.
fn coded(data: &[u8]) -> usize {
    data.windows(2).position(|pair| pair[0] == 0xFF && pair[1] >= 0x80).unwrap_or(data.len())
}

impl Header {
    /// Decodes into samples, pixel after pixel, of `width` × `height` × `components`.
    pub(super) fn decode(&self, data: &[u8], mut put: impl FnMut(usize, u16)) -> Result<(), String> {
        let (width, height) = (usize::from(self.width), usize::from(self.height));
        let components = usize::from(self.components);
        let mut seen = vec![false; components];
        for scan in &self.scans {
            for component in &scan.components {
                if std::mem::replace(&mut seen[*component], true) {
                    return Err("its compressed image has a component twice".into());
                }
            }
            let coded = data.get(scan.coded.clone()).unwrap_or_default();
            let mut decoder = Decoder::new(self, scan, coded)?;
            let count = scan.components.len();
            // A sample beside the line on each side.
            let mut before = vec![vec![0i32; width + 2]; count];
            let mut lines = before.clone();
            for y in 0..height {
                for (line, before) in lines.iter_mut().zip(&mut before) {
                    line[0] = before[1];
                    before[width + 1] = before[width];
                }
                match scan.interleave {
                    Interleave::Sample => decoder.pixels(&mut lines, &before)?,
                    _ => {
                        for (i, (line, before)) in lines.iter_mut().zip(&before).enumerate() {
                            decoder.line(line, before, i)?;
                        }
                    }
                }
                for (line, component) in lines.iter().zip(&scan.components) {
                    for (x, value) in line[1..=width].iter().enumerate() {
                        put((y * width + x) * components + component, *value as u16);
                    }
                }
                std::mem::swap(&mut lines, &mut before);
            }
        }
        if seen.contains(&false) {
            return Err("its compressed image lacks a component".into());
        }
        Ok(())
    }
}

/// The statistics of one context (annex A.6).
#[derive(Clone, Copy)]
struct Context {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
}

/// Of a run that ends (annex A.7.2).
#[derive(Clone, Copy)]
struct RunContext {
    a: i32,
    n: i32,
    negative: i32,
}

/// Orders of the lengths of runs (annex A.7.1).
const J: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const CONTEXTS: usize = 365;

struct Decoder<'a> {
    bits: Bits<'a>,
    near: i32,
    max: i32,
    range: i32,
    /// Bits of an error that is written out.
    qbpp: u32,
    limit: u32,
    thresholds: [i32; 3],
    reset: i32,
    contexts: Vec<Context>,
    runs: [RunContext; 2],
    /// Of each component in the scan.
    run_index: Vec<usize>,
}

impl<'a> Decoder<'a> {
    fn new(header: &Header, scan: &Scan, coded: &'a [u8]) -> Result<Self, String> {
        let [max, t1, t2, t3, reset] = header.preset;
        let near = scan.near;
        let most = (1 << header.precision) - 1;
        let max = if max == 0 { most } else { max };
        if max > most || near > 255.min(max / 2) {
            return Err("its compressed image has parameters that do not fit its depth".into());
        }
        let defaults = thresholds(max, near);
        let chosen = [t1, t2, t3].map(|t| t.min(max));
        let stated = |i: usize| if chosen[i] == 0 { defaults[i] } else { chosen[i] };
        let range = if near == 0 { max + 1 } else { (max + 2 * near) / (2 * near + 1) + 1 };
        let bits = |values: i32| (values - 1).max(1).ilog2() + 1;
        let bpp = bits(max + 1).max(2);
        let a = ((range + 32) / 64).max(2);
        Ok(Self {
            bits: Bits { data: coded, at: 0, held: 0, count: 0 },
            near,
            max,
            range,
            qbpp: bits(range),
            limit: 2 * (bpp + bpp.max(8)),
            thresholds: [stated(0), stated(1), stated(2)],
            reset: if reset == 0 { 64 } else { reset.max(3) },
            contexts: vec![Context { a, b: 0, c: 0, n: 1 }; CONTEXTS],
            runs: [RunContext { a, n: 1, negative: 0 }; 2],
            run_index: vec![0; scan.components.len()],
        })
    }

    /// One line of one component; both have a sample more on each side.
    fn line(&mut self, line: &mut [i32], before: &[i32], component: usize) -> Result<(), String> {
        let width = line.len() - 2;
        let mut x = 1;
        while x <= width {
            let (ra, rb, rc, rd) = (line[x - 1], before[x], before[x - 1], before[x + 1]);
            let gradients = [rd - rb, rb - rc, rc - ra];
            if gradients.iter().any(|d| d.abs() > self.near) {
                line[x] = self.regular(gradients, ra, rb, rc)?;
                x += 1;
                continue;
            }
            let run = self.run(width + 1 - x, component)?;
            line[x..x + run].fill(ra);
            x += run;
            if x <= width {
                let rb = before[x];
                line[x] = self.interruption(ra, rb, (ra - rb).abs() <= self.near, component)?;
                self.shorter(component);
                x += 1;
            }
        }
        Ok(())
    }

    /// One line of all components, pixel after pixel: a run is one of all of them.
    fn pixels(&mut self, lines: &mut [Vec<i32>], before: &[Vec<i32>]) -> Result<(), String> {
        let width = lines[0].len() - 2;
        let mut x = 1;
        while x <= width {
            let mut flat = true;
            for (line, before) in lines.iter().zip(before) {
                let (ra, rb, rc, rd) = (line[x - 1], before[x], before[x - 1], before[x + 1]);
                flat &= [rd - rb, rb - rc, rc - ra].iter().all(|d| d.abs() <= self.near);
            }
            if !flat {
                for (line, before) in lines.iter_mut().zip(before) {
                    let (ra, rb, rc, rd) = (line[x - 1], before[x], before[x - 1], before[x + 1]);
                    line[x] = self.regular([rd - rb, rb - rc, rc - ra], ra, rb, rc)?;
                }
                x += 1;
                continue;
            }
            let run = self.run(width + 1 - x, 0)?;
            for line in lines.iter_mut() {
                let ra = line[x - 1];
                line[x..x + run].fill(ra);
            }
            x += run;
            if x <= width {
                for (line, before) in lines.iter_mut().zip(before) {
                    line[x] = self.interruption(line[x - 1], before[x], false, 0)?;
                }
                self.shorter(0);
                x += 1;
            }
        }
        Ok(())
    }

    /// Annex A.4 to A.6.
    fn regular(&mut self, gradients: [i32; 3], ra: i32, rb: i32, rc: i32) -> Result<i32, String> {
        let [q1, q2, q3] = gradients.map(|d| self.quantized(d));
        let q = 81 * q1 + 9 * q2 + q3;
        let sign = if q < 0 { -1 } else { 1 };
        let at = q.unsigned_abs() as usize;
        let Context { a, b, c, n } = self.contexts[at];
        let predicted = match () {
            () if rc >= ra.max(rb) => ra.min(rb),
            () if rc <= ra.min(rb) => ra.max(rb),
            () => ra + rb - rc,
        };
        let predicted = (predicted + sign * c).clamp(0, self.max);
        let k = order(n, a)?;
        let mapped = self.golomb(k, self.limit)?;
        let turned = self.near == 0 && k == 0 && 2 * b <= -n;
        let error = match (mapped & 1 == 1, turned) {
            (true, true) => (mapped - 1) / 2,
            (false, true) => -(mapped / 2) - 1,
            (false, false) => mapped / 2,
            (true, false) => -(mapped + 1) / 2,
        };
        self.contexts[at] = self.updated(Context { a, b, c, n }, error);
        Ok(self.reconstructed(predicted, sign * error))
    }

    /// Annex A.6.
    fn updated(&self, context: Context, error: i32) -> Context {
        let Context { mut a, mut b, mut c, mut n } = context;
        b += error * (2 * self.near + 1);
        a = a.saturating_add(error.abs());
        if n >= self.reset {
            (a, b, n) = (a >> 1, b >> 1, n >> 1);
        }
        n += 1;
        if b <= -n {
            (b, c) = ((b + n).max(1 - n), (c - 1).max(-128));
        } else if b > 0 {
            (b, c) = ((b - n).min(0), (c + 1).min(127));
        }
        Context { a, b, c, n }
    }

    /// How many samples repeat the last one, `left` at most (annex A.7.1).
    fn run(&mut self, left: usize, component: usize) -> Result<usize, String> {
        let mut run = 0;
        let index = &mut self.run_index[component];
        while self.bits.take(1)? == 1 {
            let length = 1usize << J[*index];
            if run + length > left {
                return Ok(left);
            }
            run += length;
            *index = (*index + 1).min(J.len() - 1);
            if run == left {
                return Ok(run);
            }
        }
        run += self.bits.take(J[*index])? as usize;
        if run >= left {
            return Err("its compressed image has a run over the end of a line".into());
        }
        Ok(run)
    }

    /// After the sample at which a run ended.
    fn shorter(&mut self, component: usize) {
        let index = &mut self.run_index[component];
        *index = index.saturating_sub(1);
    }

    /// The sample at which a run ends (annex A.7.2). `alike`: those left of it and above are.
    fn interruption(&mut self, ra: i32, rb: i32, alike: bool, component: usize) -> Result<i32, String> {
        let kind = i32::from(alike);
        let RunContext { a, n, negative } = self.runs[usize::from(alike)];
        let k = order(n, if alike { a.saturating_add(n >> 1) } else { a })?;
        let limit = self.limit - J[self.run_index[component]] - 1;
        let mapped = self.golomb(k, limit)?;
        let odd = (mapped + kind) & 1;
        let size = (mapped + kind + odd) / 2;
        let error = if (k != 0 || 2 * negative >= n) == (odd == 1) { -size } else { size };
        let (mut a, mut n, mut negative) =
            (a.saturating_add((mapped + 1 - kind) >> 1), n, negative + i32::from(error < 0));
        if n >= self.reset {
            (a, n, negative) = (a >> 1, n >> 1, negative >> 1);
        }
        self.runs[usize::from(alike)] = RunContext { a, n: n + 1, negative };
        let sign = if !alike && ra > rb { -1 } else { 1 };
        Ok(self.reconstructed(if alike { ra } else { rb }, sign * error))
    }

    /// Annex A.3.3.
    fn quantized(&self, d: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = match d.abs() {
            d if d <= self.near => 0,
            d if d < t1 => 1,
            d if d < t2 => 2,
            d if d < t3 => 3,
            _ => 4,
        };
        size * d.signum()
    }

    /// Annex A.4.4 and A.4.5.
    fn reconstructed(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let value = predicted + error * step;
        let value = match () {
            () if value < -self.near => value + self.range * step,
            () if value > self.max + self.near => value - self.range * step,
            () => value,
        };
        value.clamp(0, self.max)
    }

    /// Annex A.5.3: a Golomb code of limited length. Stays far below what 32 bits hold.
    fn golomb(&mut self, k: u32, limit: u32) -> Result<i32, String> {
        let most = limit.checked_sub(self.qbpp + 1).ok_or_else(damaged)?;
        let zeros = self.bits.zeros(most)?;
        let value = match zeros < most {
            true => (zeros << k) + self.bits.take(k)?,
            false => self.bits.take(self.qbpp)? + 1,
        };
        Ok(value as i32)
    }
}

/// Annex C.2.4.1.1.1.
fn thresholds(max: i32, near: i32) -> [i32; 3] {
    let clamp = |value: i32, low: i32| if value > max || value < low { low } else { value };
    let [t1, t2, t3] = if max >= 128 {
        let factor = (max.min(4095) + 128) / 256;
        [factor + 2 + 3 * near, factor * 4 + 3 + 5 * near, factor * 17 + 4 + 7 * near]
    } else {
        let factor = 256 / (max + 1);
        [(3 / factor + 3 * near).max(2), (7 / factor + 5 * near).max(3), (21 / factor + 7 * near).max(4)]
    };
    let t1 = clamp(t1, near + 1);
    let t2 = clamp(t2, t1);
    [t1, t2, clamp(t3, t2)]
}

/// The order of a Golomb code: the least that brings `n` to `a`.
fn order(n: i32, a: i32) -> Result<u32, String> {
    (0..=16).find(|k| i64::from(n) << k >= i64::from(a)).ok_or_else(damaged)
}

fn damaged() -> String {
    "its compressed image cannot be decoded".to_owned()
}

/// Coded data, bit by bit from the highest.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// Holds as many bits as there is room for. Behind 0xFF the highest bit is stuffed and left out.
    fn fill(&mut self) {
        while self.count <= 48 {
            let Some(byte) = self.data.get(self.at) else { return };
            let stuffed = self.at > 0 && self.data[self.at - 1] == 0xFF;
            let bits = if stuffed { 7 } else { 8 };
            self.held = self.held << bits | u64::from(*byte);
            self.count += bits;
            self.at += 1;
        }
    }

    /// The next `bits`, 32 at most.
    fn take(&mut self, bits: u32) -> Result<u32, String> {
        if self.count < bits {
            self.fill();
            if self.count < bits {
                return Err("its compressed image is cut".into());
            }
        }
        self.count -= bits;
        Ok((self.held >> self.count & ((1u64 << bits) - 1)) as u32)
    }

    /// Zeros up to the next one, which is taken too; no more than `most`, behind which one must come.
    fn zeros(&mut self, most: u32) -> Result<u32, String> {
        let mut zeros = 0;
        loop {
            if self.count == 0 {
                self.fill();
            }
            if self.count == 0 {
                return Err("its compressed image is cut".into());
            }
            let held = self.held << (64 - self.count);
            let some = held.leading_zeros().min(self.count);
            zeros += some;
            if zeros > most {
                return Err(damaged());
            }
            self.count -= some;
            if self.count > 0 {
                self.count -= 1;
                return Ok(zeros);
            }
        }
    }
}
