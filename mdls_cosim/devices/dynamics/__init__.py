"""States in time: `evolve` to a tolerance, `after_pulses` for pulse trains, `trace` with fixed steps for fits."""

from mdls_cosim.devices.dynamics.states_in_time import after_pulses, evolve, trace

__all__ = ["after_pulses", "evolve", "trace"]
