"""Which values to drop and to compute again, so that a program needs no more memory than it may.

A program is a list of tasks, in order. Each reads values and makes values; a value that is needed later takes memory
until then, unless it is dropped and made again. This module knows nothing of graphs: `passes/rematerialize.py` says
what the tasks of a graph are, and writes down as a graph what is found here.

The program is played through, task by task. When there is no room for a result, the value whose loss hurts least is
dropped: the one with the smallest

    time to make it again  /  (bytes x how long it will not be needed)

where the time includes that of whatever it is made of and is not there any more. When a task needs a value that was
dropped, it is made again just before, recursively. This is the rule of dynamic tensor rematerialisation (M. Kirisame et
al., 2021), which decides while a program runs; here it knows what comes. On a chain it keeps values at about equal
distances, as the optimal schedules do (A. Griewank and A. Walther, "Revolve", 2000; T. Chen et al., 2016).

No rule of this kind is always best, so several are played, and the cheapest result that fits is taken.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Sequence
from typing import NamedTuple

NEVER = 1 << 60
LONGEST = 10  # times the time of the program for what is made again: then it is given up
FAR = 200  # of so many values that another is made of, the time is known well enough
PATIENCE = (0.0, 0.5, 1.0, 2.0)  # the exponents that are tried


class Task(NamedTuple):
    """One operation: the values (numbers) that it reads and makes, its time, the bytes that it needs for itself, and
    the values in whose place it may write its result if they end there."""

    reads: tuple[int, ...]
    makes: tuple[int, ...]
    time: float = 1.0
    scratch: int = 0
    over: tuple[int, ...] = ()


class Problem(NamedTuple):
    """A program: its tasks in order; the bytes of each value; for each value the task that makes it again (which makes
    nothing else), None where it must not be; the values that outlive the program."""

    tasks: Sequence[Task]
    sizes: Sequence[int]
    again: Sequence[Task | None]
    kept: frozenset[int]


class Played(NamedTuple):
    """A program played through.

    Attributes:
        moves: what is done, in order: (True, number of a task), or (False, number of a value that is made again).
        patience: the exponent of the rule. time: of what is made again. peak: the most bytes alive at one time.
        holding: the values alive then.
    """

    moves: tuple[tuple[bool, int], ...]
    patience: float
    time: float
    peak: int
    holding: tuple[int, ...]


class Player:
    """The state of a program while it is played.

    Args:
        problem: the program. room: the bytes that it may use.
        patience: the exponent of the time for which a value is not needed.
    """

    def __init__(self, problem: Problem, room: int, patience: float):
        self.problem, self.room, self.patience = problem, room, patience
        self.uses: list[list[int]] = [[] for _ in problem.sizes]
        self.made_of_it: list[list[int]] = [[] for _ in problem.sizes]  # value -> the values made again from it
        for i, task in enumerate(problem.tasks):
            for v in task.reads:
                self.uses[v].append(i)
        self.reads = [() if recipe is None else recipe.reads for recipe in problem.again]
        for v, reads in enumerate(self.reads):
            for x in reads:
                self.made_of_it[x].append(v)
        fixed = problem.kept
        self.droppable = {v for v, size in enumerate(problem.sizes) if size and problem.again[v] and v not in fixed}
        self.there: dict[int, None] = {}  # the values that are in memory
        self.made = [False] * len(problem.sizes)
        self.wanted = [False] * len(problem.sizes)  # dropped, or what such a value is made of
        self.now = -1
        self.used = self.peak = 0
        self.time = 0.0
        self.holding: tuple[int, ...] = ()
        self.moves: list[tuple[bool, int]] = []
        self.needs: dict[int, int] = {}  # what `next_need` and `time_again` found, as long as it holds
        self.times: dict[int, float] = {}
        self.pinned: Counter[int] = Counter()  # value -> how many tasks that have been begun will read it
        self.longest = LONGEST * sum(task.time for task in problem.tasks)

    def play(self) -> Played | None:
        """The program played through; None if it does not fit, or becomes too long."""
        for i, task in enumerate(self.problem.tasks):
            self.now = i - 1  # what this task needs is needed
            if not self.provide(task.reads):
                return None
            self.now = i
            self.perform(task, (True, i))
            if self.peak > self.room:
                return None
        return Played(tuple(self.moves), self.patience, self.time, self.peak, self.holding)

    def provide(self, values: Sequence[int]) -> bool:
        """See to it that all of these values are there, and stay until they have been read. False if that does not
        fit, or takes too long: where there is hardly any room, values may push each other out for ever."""
        open_: list[tuple[Task | None, int, Sequence[int]]] = [(None, -1, values)]
        self.pinned.update(values)
        while open_ and self.time <= self.longest and self.peak <= self.room:
            task, value, reads = open_[-1]
            missing = next((x for x in reads if x not in self.there), None)
            if missing is not None:
                recipe = self.problem.again[missing]
                assert recipe is not None, "a value that cannot be made again was dropped"
                self.pinned.update(recipe.reads)
                open_.append((recipe, missing, recipe.reads))
                continue
            open_.pop()
            if task is not None:
                self.perform(task, (False, value))
                self.time += task.time
        return not open_

    def perform(self, task: Task, move: tuple[bool, int]) -> None:
        """Do a task whose values are there, and let go of what nobody needs any more."""
        gone = [v for v in task.reads if self.pinned[v] == 1 and self.next_need(v) == NEVER]
        makes = task.makes
        size = sum(self.problem.sizes[v] for v in makes)
        over = next((v for v in task.over if v in gone and self.problem.sizes[v] == size), None)
        needed = task.scratch + (size if over is None else 0)
        while self.used + needed > self.room and (self.drop_one(self.pinned) or self.drop_one(task.reads)):
            pass
        if self.used + needed > self.peak:
            self.peak, self.holding = self.used + needed, (*self.there, *makes)
        for v in task.reads:
            self.pinned[v] -= 1
            if not self.pinned[v]:
                del self.pinned[v]
        for v in gone:
            self.remove(v)
        for v in makes:
            self.there[v], self.made[v] = None, True
            self.used += self.problem.sizes[v]
            self.forget(v)
        self.moves.append(move)
        for v in makes:
            if v not in self.pinned and self.next_need(v) == NEVER:
                self.remove(v)

    def remove(self, v: int) -> None:
        if v in self.there:
            del self.there[v]
            self.used -= self.problem.sizes[v]
            self.forget(v)

    def forget(self, v: int) -> None:
        """What has been found out about values around `v`, which came or went, no longer holds."""
        self.needs.pop(v, None)
        self.times.pop(v, None)
        for x in self.around(v, self.made_of_it, FAR):
            self.times.pop(x, None)
        if self.wanted[v]:
            for x in self.around(v, self.reads, NEVER):
                self.needs.pop(x, None)
                self.wanted[x] = True

    def around(self, v: int, neighbours: Sequence[Sequence[int]], most: int) -> set[int]:
        """The values that are made of `v`, or of which it is made, without others that are there in between."""
        seen, todo = {v}, [v]
        while todo and len(seen) < most:
            for x in neighbours[todo.pop()]:
                if x not in seen and self.made[x]:
                    seen.add(x)
                    if x not in self.there:
                        todo.append(x)
        return seen

    # ------------------------------------------------------------------------------------------------ what to drop
    def drop_one(self, needed: Container[int]) -> bool:
        """Drop the value whose loss hurts least, and that is not among those needed. False if there is none."""
        best, least = -1, float("inf")
        for v in self.there:
            if v not in self.droppable or v in needed:
                continue
            time = self.time_again(v)
            hurt = time / (self.problem.sizes[v] * float(self.next_need(v) - self.now) ** self.patience)
            if hurt < least:
                best, least = v, hurt
        if best >= 0:
            self.wanted[best] = True
            self.remove(best)
        return best >= 0

    def next_need(self, v: int) -> int:
        """The next task that needs a value, or that needs what has been dropped and is made of it."""
        if v in self.problem.kept:
            return len(self.problem.tasks)
        if self.needs.get(v, -1) > self.now:
            return self.needs[v]
        best, seen, todo = NEVER, {v}, [v]
        while todo:
            x = todo.pop()
            at = bisect_right(self.uses[x], self.now)
            if at < len(self.uses[x]):
                best = min(best, self.uses[x][at])
            for y in self.made_of_it[x]:
                if y not in seen and self.wanted[y] and y not in self.there:
                    seen.add(y)
                    todo.append(y)
        self.needs[v] = best
        return best

    def time_again(self, v: int) -> float:
        """The time to make a value again, with all that is not there and that it is made of."""
        if v in self.times:
            return self.times[v]
        total, seen, todo = 0.0, {v}, [v]
        while todo and len(seen) < FAR:
            recipe = self.problem.again[todo.pop()]
            total += float("inf") if recipe is None else recipe.time
            for x in () if recipe is None else recipe.reads:
                if x not in seen and x not in self.there:
                    seen.add(x)
                    todo.append(x)
        self.times[v] = total
        return total


def fit(problem: Problem, room: int) -> Played | None:
    """Play a program in several ways: the one that makes the least again among those that stay within `room` bytes;
    None if there is none."""
    found = [Player(problem, room, patience).play() for patience in PATIENCE]
    return min((p for p in found if p is not None), key=lambda p: p.time, default=None)
