//! What a module is written in.

use std::path::Path;

/// A language that `gantry module new` has a template for and `gantry module build` can build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// With the SDK; compiled by cargo.
    #[default]
    Rust,
    /// Compiled by clang, or by zig.
    C,
    /// CPython and the code, made a component by componentize-py.
    Python,
    /// StarlingMonkey and the code, made a component by componentize-js.
    #[value(name = "javascript")]
    JavaScript,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::C, Self::Python, Self::JavaScript];

    /// The file of a source folder that tells it.
    #[must_use]
    pub fn told_by(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::C => "module.c",
            Self::Python => "module.py",
            Self::JavaScript => "module.js",
        }
    }

    /// That of a source folder.
    #[must_use]
    pub fn of(source: &Path) -> Option<Self> {
        Self::ALL.into_iter().find(|language| source.join(language.told_by()).is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_told_by_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Language::of(folder.path()), None);
        for language in Language::ALL.into_iter().rev() {
            std::fs::write(folder.path().join(language.told_by()), "").expect("written");
            assert_eq!(Language::of(folder.path()), Some(language));
        }
    }
}
