"""ASE: forces of calculators as the negative gradient of the energy, for a few atoms in free space."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.real.case import RealCase


def cases() -> Iterator[RealCase]:
    from ase import Atoms
    from ase.calculators.acn import ACN
    from ase.calculators.harmonic import SpringCalculator
    from ase.calculators.lj import LennardJones
    from ase.calculators.morse import MorsePotential
    from ase.calculators.tip3p import TIP3P

    del ACN, TIP3P
    random = np.random.default_rng(0)
    grid = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], float)
    at = 1.2 * grid + 0.08 * random.standard_normal(grid.shape)
    pairs = np.triu_indices(5, 1)

    def distances(x: Any) -> Any:
        return jnp.sqrt(jnp.sum((x[pairs[0]] - x[pairs[1]]) ** 2, axis=1))

    def lennard_jones(x: Any, cut: float) -> Any:
        d = distances(x)
        shift = 4 * (cut**-12 - cut**-6)
        return jnp.sum(jnp.where(d < cut, 4 * (d**-12 - d**-6) - shift, 0))

    def smooth(x: Any, onset: float = 1.4, cut: float = 2.6) -> Any:
        d = distances(x)
        share = (cut**2 - d**2) ** 2 * (cut**2 + 2 * d**2 - 3 * onset**2) / (cut**2 - onset**2) ** 3
        return jnp.sum(4 * (d**-12 - d**-6) * jnp.where(d < onset, 1, jnp.where(d < cut, share, 0)))

    def morse(x: Any) -> Any:
        e = jnp.exp(6.0 * (1 - distances(x) / 1.1))
        return jnp.sum(e * (e - 2))

    def morse_cut(x: Any) -> Any:
        """All distances are below the first cutoff, or in between, where a cubic falls to 0."""
        d = distances(x)
        e = jnp.exp(6.0 * (1 - d / 1.1))
        s = (d - 1.1 * 1.2) / (1.1 * (2.5 - 1.2))
        fall = jnp.where(s <= 0, 1, jnp.where(s < 1, 1 - s**3 * (6 * s**2 - 15 * s + 10), 0))
        return jnp.sum(e * (e - 2) * fall)

    ideal = at + 0.1
    table = [
        ("LennardJones(rc=5)", LennardJones(rc=5.0), lambda x: lennard_jones(x, 5.0)),
        ("LennardJones(smooth)", LennardJones(rc=2.6, ro=1.4, smooth=True), smooth),
        ("MorsePotential(no cutoff near)", MorsePotential(r0=1.1, rcut1=8.0, rcut2=9.0), morse),
        ("MorsePotential(cutoff)", MorsePotential(r0=1.1, rcut1=1.2, rcut2=2.5), morse_cut),
        ("SpringCalculator", SpringCalculator(ideal, 2.3), lambda x: 2.3 / 2 * jnp.sum((x - ideal) ** 2)),
    ]
    for name, calculator, in_jax in table:
        atoms = Atoms("Ar5", positions=at)
        atoms.calc = calculator

        def by_hand(x: Any, atoms: Any = atoms) -> Any:
            atoms.positions = x
            return atoms.get_potential_energy(), -atoms.get_forces()

        yield RealCase(name, by_hand, in_jax, at)
