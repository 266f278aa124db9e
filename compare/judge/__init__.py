"""Two functions in, one report out: whether two derivatives agree, where they part, why, and which side is wrong.

The way of a check, from its door to its report; each room imports only from those below it:

    gradients.py            the door that the others come to: what is asked, put in order
    vjp.py jvp.py           a forward and backward pair, and a product with the Jacobian, as gradients
    hessian.py jacobian.py  products with the Hessian; matrices: dense, sparse, operators
    custom_rules.py         every custom rule of a JAX program, at the inputs that it gets there
    trajectory.py           one step of training after the other
    own_loss.py             where there is no reference: differences of the hand-written loss, and bisection
         |
    diagnosis/      attribution.py   after a disagreement: the first wrong quantity, and which side fits its own loss
         |          causes.py hypotheses/ evidence.py predictions.py   why: predictions that are held to what is there
         |          update_rules.py  why a step of training is wrong
         |
    evaluation/     point.py         both sides at one point
         |          side_effects.py static_arguments.py complex_parts.py   the code under test, as it is called
         |          wider.py         in a wider dtype, which tells lost digits from a wrong derivation
         |          perturbed_points.py domain.py elsewhere.py   other points, where they may be, what they convict of
         |          nonsmooth.py intermediates.py finite_differences.py   ties; taps; opinions without derivatives
         |          steps.py single_step.py   of training
         |
    reports/        verdict.py gradient_report.py trajectory_report.py tables.py   for people, programs and notebooks
         |
    roundoff/       tolerance.py     the reference's values, and how far rounding moves each entry
         |          whole.py         and leaves as a whole
         |          perturbation.py error_model.py   every operation's result moved by what its rounding may be
         |
    program/        trace.py         the loss and its gradient, traced once by JAX
                    numpy_tracing.py numpy_names.py   the same of a function in NumPy
                    plan.py line.py blocks.py   evaluated step by step in NumPy, along a line, in blocks
                    decisions.py     floor, comparisons and the like, repeated from run to run
                    primitives/      by rules that know each operation from one table

Nothing that a check makes outlives it: its traces go when the report is returned, and nothing is compiled.
"""
