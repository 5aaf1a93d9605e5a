//! Asks for grids that no host can hold: each call must fail, none may be tried.

use gantry_guest::prelude::*;

struct HugeGrid;

impl Analyzer for HugeGrid {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let most = u32::MAX;
        let tries = [
            ("pad", source.pad(Extent::new(most, most, most), 0.0)),
            ("resample", source.resample(Vec3::new(1e-9, 1e-9, 1e-9), Interpolation::Linear)),
            ("zero", source.resample(Vec3::new(0.0, 1.0, 1.0), Interpolation::Linear)),
            ("nan", source.resample(Vec3::new(f64::NAN, 1.0, 1.0), Interpolation::Linear)),
            ("crop", source.crop(Region { start: Extent::new(most, 0, 0), size: Extent::new(2, 1, 1) })),
            ("empty", source.crop(Region { start: Extent::new(0, 0, 0), size: Extent::new(0, 1, 1) })),
            (
                "list",
                volumes::from_list(&[0.0], Geometry::upright(Extent::new(most, most, most), Vec3::new(1.0, 1.0, 1.0))),
            ),
        ];
        for (what, result) in tries {
            match result {
                Err(error) => info!("{what}: {error}"),
                // A view of that size may be given, as long as nobody can have its voxels.
                Ok(volume) => match volume.to_tensor(TensorType::Fp64) {
                    Err(error) => info!("{what}: {error}"),
                    Ok(_) => return Err(Error::new(format_args!("{what} was done"))),
                },
            }
        }
        findings::classify(&rogue::code("REFUSED", "Every call was refused"), 1.0)
    }
}

gantry_guest::export!(HugeGrid);
