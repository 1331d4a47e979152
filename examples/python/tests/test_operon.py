"""What a component prints, without a component."""

import unittest
from unittest.mock import patch

from operon import Log, Printed


class PrintedTest(unittest.TestCase):
    def setUp(self) -> None:
        self.lines: list[tuple[str, str]] = []
        write = staticmethod(lambda level, message: self.lines.append((level, message)))
        replaced = patch.object(Log, "write", write)
        replaced.start()
        self.addCleanup(replaced.stop)

    def test_a_line_is_one_line_of_the_log_however_many_values_it_has(self) -> None:
        printed = Printed()
        print("a", "b", file=printed)
        print("c\n\nd", file=printed)
        self.assertEqual(self.lines, [("info", "a b"), ("info", "c"), ("info", "d")])

    def test_a_line_without_an_end_is_written_by_a_flush_once(self) -> None:
        printed = Printed()
        print("a", end=" ", file=printed)
        print("b", end="", file=printed)
        self.assertEqual(self.lines, [])
        printed.flush()
        printed.flush()
        self.assertEqual(self.lines, [("info", "a b")])
