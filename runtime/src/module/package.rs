//! stub
use super::manifest::Manifest;
#[derive(Debug,thiserror::Error)] #[error("x")] pub struct PackageError;
pub struct Package{pub m:Manifest}
impl Package{ pub fn manifest(&self)->&Manifest{&self.m} pub fn model(&self,_n:&str,_m:u64)->Result<Vec<u8>,PackageError>{Err(PackageError)} pub fn component(&self,_m:u64)->Result<Vec<u8>,PackageError>{Err(PackageError)} pub fn component_digest(&self)->[u8;32]{[0;32]} pub fn component_path(&self)->std::path::PathBuf{"".into()}}
