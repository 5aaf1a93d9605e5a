//! JPEG of 12 bits (ISO 10918-1, the extended sequential process with Huffman codes), which the JPEG decoder of the
//! registry lacks.
//!
//! The inverse transform is that of the Independent JPEG Group's library, in whole numbers, so that values are those that
//! most readers give; the standard leaves them ±1 of freedom.

use super::jpeg::Segment;

/// One component.
struct Component {
    name: u8,
    /// Which quantization table.
    table: usize,
}

/// Where coefficients stand in a block, in order of frequency.
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Decodes the image whose marker segments those of `data` are: `put` is given the place of each sample, pixel after pixel,
/// and its value of 12 bits. Whoever calls has checked width, height and number of components.
pub(super) fn decode(data: &[u8], segments: &[Segment<'_>], mut put: impl FnMut(usize, u16)) -> Result<(), String> {
    let mut tables = Tables::default();
    let mut frame: Option<(usize, usize, Vec<Component>)> = None;
    let mut seen: Vec<bool> = Vec::new();
    for segment in segments {
        match segment.marker {
            0xDB => tables.quantization(segment.value)?,
            0xC4 => tables.huffman(segment.value)?,
            0xDD => {
                let interval = segment.value.first_chunk().ok_or_else(damaged)?;
                tables.restart = usize::from(u16::from_be_bytes(*interval));
            }
            // The sizes of the first were checked.
            0xC1 if frame.is_some() => return Err(damaged()),
            0xC1 => {
                let (width, height, components) = header(segment.value)?;
                seen = vec![false; components.len()];
                frame = Some((width, height, components));
            }
            0xDA => {
                let (width, height, components) = frame.as_ref().ok_or_else(damaged)?;
                let coded = data.get(segment.at + segment.value.len()..).unwrap_or_default();
                scan(&tables, segment.value, coded, (*width, *height), components, &mut seen, &mut put)?;
            }
            _ => {}
        }
    }
    if seen.is_empty() || seen.contains(&false) {
        return Err("its compressed image lacks a component".into());
    }
    Ok(())
}

fn damaged() -> String {
    "its compressed image cannot be decoded".to_owned()
}

fn header(value: &[u8]) -> Result<(usize, usize, Vec<Component>), String> {
    let Some(([12, y0, y1, x0, x1, count], described)) = value.split_first_chunk::<6>() else { return Err(damaged()) };
    if described.len() != usize::from(*count) * 3 {
        return Err(damaged());
    }
    let component = |c: &[u8]| match c[1] {
        0x11 => Ok(Component { name: c[0], table: usize::from(c[2]) }),
        _ => Err("its compressed image of 12 bits has components of different sizes".to_owned()),
    };
    let components = described.chunks_exact(3).map(component).collect::<Result<_, _>>()?;
    Ok((u16::from_be_bytes([*x0, *x1]).into(), u16::from_be_bytes([*y0, *y1]).into(), components))
}

/// One scan, from its header: of components that were not `seen` before, so that there are no more scans than components.
fn scan(
    tables: &Tables,
    value: &[u8],
    coded: &[u8],
    (width, height): (usize, usize),
    components: &[Component],
    seen: &mut [bool],
    put: &mut impl FnMut(usize, u16),
) -> Result<(), String> {
    let (count, rest) = value.split_first().ok_or_else(damaged)?;
    let selectors = rest.get(..usize::from(*count) * 2).ok_or_else(damaged)?;
    let mut parts = Vec::new();
    for selector in selectors.chunks_exact(2) {
        let place = components.iter().position(|c| c.name == selector[0]).ok_or_else(damaged)?;
        if std::mem::replace(&mut seen[place], true) {
            return Err("its compressed image has a component twice".to_owned());
        }
        let (dc, ac) = (usize::from(selector[1] >> 4), usize::from(selector[1] & 15));
        let part = Part {
            place,
            quantization: tables
                .quantization
                .get(components[place].table)
                .and_then(Option::as_ref)
                .ok_or_else(damaged)?,
            dc: tables.codes.get(dc).and_then(Option::as_ref).ok_or_else(damaged)?,
            ac: tables.codes.get(4 + ac).and_then(Option::as_ref).ok_or_else(damaged)?,
            last: 0,
        };
        parts.push(part);
    }
    if parts.is_empty() {
        return Err(damaged());
    }
    let mut bits = Bits { data: coded, at: 0, held: 0, count: 0 };
    let across = width.div_ceil(8);
    for block in 0..across * height.div_ceil(8) {
        if tables.restart > 0 && block > 0 && block.is_multiple_of(tables.restart) {
            bits.restart()?;
            parts.iter_mut().for_each(|part| part.last = 0);
        }
        let (left, top) = (block % across * 8, block / across * 8);
        for part in &mut parts {
            let samples = transformed(&part.block(&mut bits)?);
            for (i, sample) in samples.iter().enumerate() {
                let (x, y) = (left + i % 8, top + i / 8);
                if x < width && y < height {
                    put((y * width + x) * components.len() + part.place, *sample);
                }
            }
        }
    }
    Ok(())
}

/// One component of a scan.
struct Part<'a> {
    place: usize,
    quantization: &'a [i64; 64],
    dc: &'a Codes,
    ac: &'a Codes,
    /// The coefficient that the next one is the difference to.
    last: i64,
}

impl Part<'_> {
    /// The coefficients of a block (annex F.2.2).
    fn block(&mut self, bits: &mut Bits<'_>) -> Result<[i64; 64], String> {
        let mut block = [0; 64];
        let size = self.dc.symbol(bits)?;
        self.last = self.last.saturating_add(bits.signed(size)?);
        block[0] = self.last.saturating_mul(self.quantization[0]);
        let mut k = 1;
        while k < 64 {
            let symbol = self.ac.symbol(bits)?;
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            if size == 0 && zeros < 15 {
                break;
            }
            k += zeros;
            let place = *ZIGZAG.get(k).ok_or_else(damaged)?;
            block[place] = bits.signed(size)? * self.quantization[k];
            k += 1;
        }
        Ok(block)
    }
}

/// What marker segments define: tables 0 to 3 of each kind.
#[derive(Default)]
struct Tables {
    /// In zigzag order.
    quantization: [Option<[i64; 64]>; 4],
    /// Of first coefficients, then of the others.
    codes: [Option<Codes>; 8],
    /// Blocks between restarts, or 0.
    restart: usize,
}

impl Tables {
    fn quantization(&mut self, mut value: &[u8]) -> Result<(), String> {
        while let Some((kind, rest)) = value.split_first() {
            let wide = usize::from(kind >> 4 & 1);
            let (words, after) = rest.split_at_checked(64 << wide).ok_or_else(damaged)?;
            let mut table = [0; 64];
            for (entry, word) in table.iter_mut().zip(words.chunks_exact(1 << wide)) {
                *entry = word.iter().fold(0, |n, byte| n << 8 | i64::from(*byte));
            }
            *self.quantization.get_mut(usize::from(kind & 15)).ok_or_else(damaged)? = Some(table);
            value = after;
        }
        Ok(())
    }

    fn huffman(&mut self, mut value: &[u8]) -> Result<(), String> {
        while let Some((kind, rest)) = value.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
            let total = counts.iter().map(|n| usize::from(*n)).sum();
            let (symbols, after) = rest.split_at_checked(total).ok_or_else(damaged)?;
            let place = usize::from(kind >> 4) * 4 + usize::from(kind & 15);
            let codes = Codes { counts: counts.map(u32::from), symbols: symbols.to_vec() };
            *self.codes.get_mut(place).filter(|_| kind & 15 < 4).ok_or_else(damaged)? = Some(codes);
            value = after;
        }
        Ok(())
    }
}

/// Huffman codes (annex C): how many of each length, and what they stand for, in order.
struct Codes {
    counts: [u32; 16],
    symbols: Vec<u8>,
}

impl Codes {
    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u8, String> {
        let (mut code, mut first, mut place) = (0u32, 0u32, 0usize);
        for count in self.counts {
            code = code << 1 | bits.take(1)?;
            if let Some(i) = code.checked_sub(first).filter(|i| *i < count) {
                return self.symbols.get(place + i as usize).copied().ok_or_else(damaged);
            }
            place += count as usize;
            first = (first + count) << 1;
        }
        Err(damaged())
    }
}

/// Coded data, bit by bit from the highest.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u32,
    count: u32,
}

impl Bits<'_> {
    /// The next `bits`, 16 at most. Behind 0xFF a zero is stuffed, and anything else is a marker.
    fn take(&mut self, bits: u32) -> Result<u32, String> {
        while self.count < bits {
            let byte = match self.data.get(self.at..) {
                Some([0xFF, 0x00, ..]) => {
                    self.at += 1;
                    0xFF
                }
                Some([byte, ..]) if *byte != 0xFF => *byte,
                _ => return Err("its compressed image is cut".into()),
            };
            self.at += 1;
            self.held = self.held << 8 | u32::from(byte);
            self.count += 8;
        }
        self.count -= bits;
        Ok(self.held >> self.count & ((1 << bits) - 1))
    }

    /// A number of `size` bits, whose upper half is positive (annex F.2.2.1).
    fn signed(&mut self, size: u8) -> Result<i64, String> {
        if size > 15 {
            return Err(damaged());
        }
        let value = i64::from(self.take(size.into())?);
        let half = (1i64 << size) >> 1;
        Ok(if value < half { value - (1 << size) + 1 } else { value })
    }

    /// Over a restart marker, which must be next.
    fn restart(&mut self) -> Result<(), String> {
        self.count = 0;
        match self.data.get(self.at..) {
            Some([0xFF, 0xD0..=0xD7, ..]) => self.at += 2,
            _ => return Err(damaged()),
        }
        Ok(())
    }
}

/// The inverse transform of a block, into samples of 12 bits.
fn transformed(block: &[i64; 64]) -> [u16; 64] {
    let mut half = [0i64; 64];
    for x in 0..8 {
        let column: [i64; 8] = std::array::from_fn(|y| block[y * 8 + x]);
        for (y, value) in one_way(column, CONST_BITS - PASS1_BITS).into_iter().enumerate() {
            half[y * 8 + x] = value;
        }
    }
    let mut samples = [0; 64];
    for (row, out) in half.chunks_exact(8).zip(samples.chunks_exact_mut(8)) {
        let row: [i64; 8] = std::array::from_fn(|x| row[x]);
        for (value, out) in one_way(row, CONST_BITS + PASS1_BITS + 3).into_iter().zip(out) {
            *out = (value + 2048).clamp(0, 4095) as u16;
        }
    }
    samples
}

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 1;

/// Loeffler, Ligtenberg and Moschytz's transform of eight values, its constants times 2¹³.
fn one_way(v: [i64; 8], down: u32) -> [i64; 8] {
    // Nothing that is an image comes near; so nothing overflows.
    let v = v.map(|v| v.clamp(-(1 << 40), 1 << 40));
    let z1 = (v[2] + v[6]) * 4433;
    let (t2, t3) = (z1 - v[6] * 15137, z1 + v[2] * 6270);
    let (t0, t1) = ((v[0] + v[4]) << CONST_BITS, (v[0] - v[4]) << CONST_BITS);
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
    let (z1, z2, z3, z4) = (v[7] + v[1], v[5] + v[3], v[7] + v[3], v[5] + v[1]);
    let z5 = (z3 + z4) * 9633;
    let (z1, z2) = (z1 * -7373, z2 * -20995);
    let (z3, z4) = (z3 * -16069 + z5, z4 * -3196 + z5);
    let odd = [v[1] * 12299 + z1 + z4, v[3] * 25172 + z2 + z3, v[5] * 16819 + z2 + z4, v[7] * 2446 + z1 + z3];
    let scaled = |value: i64| (value + (1 << (down - 1))) >> down;
    std::array::from_fn(|i| if i < 4 { scaled(even[i] + odd[i]) } else { scaled(even[7 - i] - odd[7 - i]) })
}

#[cfg(test)]
mod tests {
    use super::super::jpeg::segments;
    use super::*;

    /// One component of 8 × 8 pixels.
    const FRAME: [u8; 13] = [0xFF, 0xC1, 0, 11, 12, 0, 8, 0, 8, 1, 1, 0x11, 0];

    #[track_caller]
    fn refused(parts: &[&[u8]]) {
        let data = [&[0xFF, 0xD8][..], &parts.concat()[..]].concat();
        assert_eq!(decode(&data, &segments(&data), |_, _| {}), Err(damaged()));
    }

    #[test]
    fn an_image_has_one_header_that_describes_as_many_components_as_it_says() {
        let mut larger = FRAME;
        larger[5] = 0xFF;
        refused(&[&FRAME, &larger]);
        // Three described, and one said.
        refused(&[&[0xFF, 0xC1, 0, 17, 12, 0, 8, 0, 8, 1, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]]);
    }

    #[test]
    fn a_scan_of_no_component_is_refused() {
        refused(&[&FRAME, &[0xFF, 0xDA, 0, 6, 0, 0, 63, 0]]);
    }
}
