"""Noise processes: frozen dataclasses of pure functions, which receive their noise as arguments."""

from dtql_jax.diffusion.ddpm import DDPM
from dtql_jax.diffusion.karras import EDM, Network, Preconditioning
from dtql_jax.diffusion.sde import VE, VP, VPSDE

# The choices of the setting `schedule`.
SCHEDULES: dict[str, type[Preconditioning]] = {'edm': EDM, 'vp': VP, 've': VE}

__all__ = ['DDPM', 'EDM', 'SCHEDULES', 'VE', 'VP', 'VPSDE', 'Network', 'Preconditioning']
