import React, { useState as us } from "react";
import * as path from 'path';
import type { T } from "./types";
import "./side";
export { x } from "./x";
const fs = require("fs");

/** Greets. */
@Injectable()
export class Greeter<T> extends Base implements Hello, Other {
  private name: string = "a";
  handler = () => { this.greet(); };
  constructor(n: string) { super(); this.name = n; }
  /** Says. */
  greet(a: number): string { return format(`x ${a}`); } // TODO: shout
  get v() { return 1 }
}
export interface Hello extends A, B { greet(a: number): string; x: number }
export type Alias = string | number;
export enum Color { Red, Green }
export const add = (a: number, b: number) => a + b, two = 2;
export default function main() { new Greeter("x").greet(1); }
namespace N { export function inner() {} }
declare module "m" { function z(): void }
abstract class Q { abstract m(): void }
function* gen() { yield 1 }
export default class {}
