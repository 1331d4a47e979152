/** What the host calls. The two imports exist only in a component, so tests import `action.ts`. */
// @ts-expect-error: a module of the contract
import * as cluster from "operon:action/cluster@0.2.0";
// @ts-expect-error: a module of the contract
import * as log from "operon:action/log@0.2.0";
import { action } from "./action.js";
import { handlerOf } from "./operon.js";

// A component has no clock. To read it would end the call with a trap, which names no line of the source.
const noClock = (): never => { throw new Error("a component has no clock: use job.now"); };
Object.defineProperty(globalThis, "performance", { value: { now: noClock } });
globalThis.Date = new Proxy(Date, {
  apply: noClock,
  construct: (date, time) => (time.length === 0 ? noClock() : Reflect.construct(date, time)),
  get: (date, name) => (name === "now" ? noClock : Reflect.get(date, name)),
});

export const handler = handlerOf(action, { cluster, log });
