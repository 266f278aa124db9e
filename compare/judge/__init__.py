"""Two functions in, one report out: whether two derivatives agree, where they part, why, and which side is wrong.

The way of a check, from its door to its report; each room imports only from those below it:

    gradients.py  vjp.py  trajectory.py      the doors: what is asked, put in order
         |                     |
         |  the code under test, called on copies and watched        evaluation/side_effects.py
         |  both sides at the caller's point, then at perturbed ones  evaluation/point.py, perturbed_points.py
         |  or one step of training after the other                  evaluation/single_step.py, steps.py
         |       |
         |       |  the reference's values, and how far rounding moves each entry      roundoff/
         |       |       the loss and its gradient, traced once by JAX                 program/trace.py
         |       |       evaluated step by step in NumPy, by a rule                    program/plan.py
         |       |       which knows each operation from one table                     program/primitives/
         |       v
         |  one row for each quantity, one verdict                    reports/verdict.py
         |
         |  where they differ: is the point a nonsmooth one?          evaluation/nonsmooth.py
         |  which quantity is the first wrong one, and why?           diagnosis/attribution.py, causes.py, hypotheses/
         |  which side fits its own loss?                             evaluation/finite_differences.py
         v
    a report, for people, programs and notebooks                      reports/

Nothing that a check makes outlives it: its traces go when the report is returned, and nothing is compiled.
"""
