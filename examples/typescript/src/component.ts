/** What the host calls. The two imports exist only in a component, so tests import `action.ts`. */
// @ts-expect-error: a module of the contract
import * as cluster from "operon:action/cluster@0.2.0";
// @ts-expect-error: a module of the contract
import * as log from "operon:action/log@0.2.0";
import { action } from "./action.js";
import { handlerOf } from "./operon.js";

export const handler = handlerOf(action, { cluster, log });
