/**
 * Where a value holds times: 1 is one, an object names the members that are or hold some, "*" every member that is not named. Lists are
 * passed through. Only these places are revived, never text of a person that looks like a time.
 */
export type Plan = 1 | { readonly [member: string]: Plan };

/** revive makes each time of a parsed answer a Date, in place. */
export function revive(value: unknown, plan: Plan): unknown {
  if (Array.isArray(value)) {
    return value.map((item) => revive(item, plan));
  }
  if (plan === 1) {
    return typeof value === "string" ? new Date(value) : value;
  }
  if (value === null || typeof value !== "object") {
    return value;
  }
  const object = value as Record<string, unknown>;
  for (const name of plan["*"] ? Object.keys(object) : Object.keys(plan)) {
    const inner = plan[name] ?? plan["*"];
    if (inner && object[name] !== undefined) {
      object[name] = revive(object[name], inner);
    }
  }
  return value;
}
