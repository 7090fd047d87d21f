"""Counts how often jax traces an agent."""

import collections
import dataclasses
import functools


def counting(agent, traces: collections.Counter):
    """The agent, which counts in `traces` each trace of a phase's update, by name, and of `act`."""

    def counted(name, function):
        @functools.wraps(function)
        def call(*args):
            traces[name] += 1
            return function(*args)

        return call

    class Counting(type(agent)):
        def phases(self):
            return tuple(
                dataclasses.replace(phase, update=counted(phase.name, phase.update))
                for phase in super().phases()
            )

        def act(self, acting, obs, key):
            return counted('act', super().act)(acting, obs, key)

    return Counting(agent.spec, agent.config)
