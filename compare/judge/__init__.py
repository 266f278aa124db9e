"""The judge: takes two functions and returns a report on whether their derivatives agree, and if not, where and why.

A check passes through these rooms from top to bottom. Each room imports only from those below it.

    gradients.py            check_gradients, which all checks but check_trajectory call in the end
    vjp.py jvp.py           backward passes, and products with the Jacobian, checked as gradients of a loss
    hessian.py jacobian.py  products with the Hessian; matrices: dense, sparse, operators
    custom_rules.py         every custom derivative rule of a JAX program, at the inputs that it gets there
    trajectory.py           training, step by step
    own_loss.py             without a reference: finite differences of the hand-written loss, and bisection
         |
    diagnosis/      attribution.py   the first wrong quantity, and the side whose gradient does not fit its function
         |          causes.py hypotheses/ evidence.py predictions.py   the cause that predicts the wrong values
         |          edits.py program_words.py   single edits of the traced program; descriptions of its values
         |          update_rules.py  the cause of a wrong training step
         |          matrices.py second_order.py   the cause of a wrong matrix; missing terms of second derivatives
         |
    evaluation/     point.py         both sides at one point
         |          reading.py       what the caller passes, as both sides' functions of the same inputs
         |          side_effects.py static_arguments.py complex_parts.py   how the code under test is called
         |          wider.py         the same in a wider dtype, to tell a rounding error from a wrong derivation
         |          perturbed_points.py domain.py elsewhere.py   other points, their domain, what they prove
         |          nonsmooth.py intermediates.py finite_differences.py   ties; taps; finite differences
         |          steps.py single_step.py   training steps
         |
    reports/        verdict.py gradient_report.py trajectory_report.py tables.py   as text, as dicts and as HTML
         |
    roundoff/       tolerance.py     the reference values, and the rounding tolerance of each entry
         |          whole.py         the same for whole arrays, rows and columns
         |          perturbation.py error_model.py   the perturbation of each operation's result by its rounding error
         |
    program/        inputs.py        parameters and arguments, which are carried as one thing from reading to report
                    trace.py         the loss and its gradient, traced once by JAX
                    numpy_tracing.py numpy_names.py   the same for a function in NumPy
                    plan.py line.py blocks.py   evaluation in NumPy: step by step, along a line, in blocks
                    evaluated.py     evaluation with all values kept, and again with a few operations changed
                    decisions.py     floor, comparisons and the like, repeated from run to run
                    primitives/      one table with the rules of each operation

The parameters of a check go this way:

    check_gradients(..., parameters, *args)   the door; the other checks enter by `check`, below it
    read(...) -> inputs                       reading.py converts and checks them, once; now they are `Inputs`
    traced(loss, ...)                         trace.py: their shapes alone; if the loss cannot be traced, own_loss.py
                                              gets the inputs instead, and moves them along directions
    Check.at(inputs) -> point                 point.py: side_effects.py calls the hand-written side on copies of them,
                                              tolerance.py evaluates the reference; from now on they are `point.inputs`
    Check.at(moved inputs) -> point           the same at perturbed and nearby points: perturbed_points.py, domain.py,
                                              nonsmooth.py, elsewhere.py
    explain(check, point), and others         diagnosis/ and finite_differences.py: everything from the point
    report                                    rows, causes and sentences hold the names of the leaves, not the leaves

Nothing is compiled, and when a report is returned, its check holds neither the caller's functions nor data.
"""
