//! stub
use std::str::FromStr;
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Interface { Study, Volumes, Findings, Log, Nn, Clocks, Random, Io, Cli, Filesystem }
impl Interface { pub fn name(self)->&'static str {""} pub fn known()->String{String::new()}
 pub fn of_import(_p:&str)->Option<Self>{None} pub fn offered_version(self)->Offered{Offered}}
pub struct Offered; impl Offered { pub fn accepts(&self,_v:&str)->bool{true}} impl std::fmt::Display for Offered { fn fmt(&self,_f:&mut std::fmt::Formatter<'_>)->std::fmt::Result{Ok(())}}
impl FromStr for Interface { type Err=(); fn from_str(_s:&str)->Result<Self,()>{Err(())}}
pub struct Needs{pub interfaces:Vec<Interface>,pub attributes:Vec<String>}
pub struct ML{pub guest_memory_mib:Option<u64>,pub host_memory_mib:Option<u64>,pub job_deadline_ms:Option<u64>}
#[derive(Clone,Copy)] pub struct T; impl From<T> for crate::inference::Device { fn from(_:T)->Self{Self::Cpu}}
pub struct ME{pub name:String,pub target:T}
pub struct Manifest{pub limits:ML,pub models:Vec<ME>,pub needs:Needs}
