//! Crate doc
use std::collections::{HashMap, HashSet as HS};
use crate::a::b;
extern crate serde;
mod other;

/// Doc of S
#[derive(Debug)]
pub struct S { a: u32 }
pub enum E { A, B(i32) }
pub trait T: Base + Clone { fn req(&self); fn def(&self) { helper(); } }
impl T for S { fn req(&self) { self.x(); println!("a"); S::new(); } }
impl<T> S { pub fn new() -> Self { S { a: 1 } } }
const C: u32 = 1;
static D: u32 = 2;
type Al = u32;
macro_rules! mac { () => {} }
mod inner { pub fn g() {} }
union U { a: u32 }
