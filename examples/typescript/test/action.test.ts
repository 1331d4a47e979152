/** The action, without a cluster: `npm test`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { action } from "../src/action.js";
import { World } from "./world.js";

const KEY = "example.com/annotate-ts";

test("the pod is annotated by one write, and the target succeeds", () => {
  const world = new World();
  world.addPod("foo");
  assert.equal(world.reconcile(action, "foo").progress, "succeeded");
  assert.equal(world.reconcile(action, "foo").progress, "succeeded");
  assert.equal(world.annotation("foo", KEY), "true");
  assert.equal(world.effects.length, 1);
});

test("the settings say which annotation, and the job may say another value", () => {
  const world = new World();
  world.addPod("foo");
  const settings = { key: "example.com/owner", value: "me" };
  world.reconcile(action, "foo", { settings });
  assert.equal(world.annotation("foo", "example.com/owner"), "me");
  world.reconcile(action, "foo", { settings, parameters: { value: "by hand" } });
  assert.equal(world.annotation("foo", "example.com/owner"), "by hand");
});

test("a pod that does not exist fails with its name", () => {
  const { progress, reason, message } = new World().reconcile(action, "foo");
  assert.deepEqual([progress, reason], ["failed", "PodNotFound"]);
  assert.match(message ?? "", /foo/);
});
