"""The action, without a cluster: `python3 -m unittest`."""

import unittest

from action import action

from .world import World

KEY = "example.com/annotate-py"


class ActionTest(unittest.TestCase):
    def test_the_pod_is_annotated_by_one_write_and_the_target_succeeds(self) -> None:
        world = World()
        world.add_pod("foo")
        self.assertEqual(world.reconcile(action, "foo").progress, "succeeded")
        self.assertEqual(world.reconcile(action, "foo").progress, "succeeded")
        self.assertEqual(world.pods["foo"].annotations[KEY], "true")
        self.assertEqual(len(world.effects), 1)

    def test_the_settings_say_which_annotation_and_the_job_may_say_another_value(self) -> None:
        world = World(settings={"key": "example.com/owner", "value": "me"})
        world.add_pod("foo")
        world.reconcile(action, "foo")
        self.assertEqual(world.pods["foo"].annotations["example.com/owner"], "me")
        world.parameters = {"value": "by hand"}
        world.reconcile(action, "foo")
        self.assertEqual(world.pods["foo"].annotations["example.com/owner"], "by hand")

    def test_a_pod_that_does_not_exist_fails_with_its_name(self) -> None:
        outcome = World().reconcile(action, "foo")
        self.assertEqual((outcome.progress, outcome.reason), ("failed", "PodNotFound"))
        self.assertIn("foo", outcome.message or "")
