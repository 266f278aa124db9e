# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Find the bug
#
# This notebook has some forty bugs that public projects shipped in a backward pass or an update, each rebuilt in a few
# lines. Look at the evidence, guess, and then run the judge. Everything here needs JAX, with which the judge computes.

# %%
import inspect

import matplotlib.pyplot as plt

from compare.museum import EXHIBITS

for name, exhibit in list(EXHIBITS.items())[:8]:
    print(f"{name:22} {exhibit.title}")
print("and", len(EXHIBITS) - 8, "more")

# %% [markdown]
# ## The evidence
#
# Here is one without its title: a line of the backward pass of softmax, as it was shipped. What is wrong with it?

# %%
NAME = "softmax-diagonal"  # put another name here, and run the cells below again
bug = EXHIBITS[NAME]

print("The line:", bug.wrong)

# %% [markdown]
# Training works. From the solid line alone, nothing looks wrong:

# %% mystnb={"image": {"alt": "Two loss curves that fall, with the bug and without."}}
with_bug, without = bug.training_curves()
figure, axes = plt.subplots(figsize=(5, 2.6), dpi=80, layout="constrained")
axes.plot(with_bug, label="as shipped")
axes.plot(without, "--", label="corrected")
axes.set(xlabel="step", ylabel="loss")
axes.legend()
plt.show()

# %% [markdown]
# There was also a check. This is what it did, and its result for the bug:

# %%
print(bug.checked or "none is known", "\nThe bug", "passes." if bug.check_passes() else "does not pass.")

# %% [markdown]
# ## Your guess
#
# Write down what you think is wrong before you run the next cell.

# %%
GUESS = "each output is differentiated by its own input only"

# %% [markdown]
# ## What the judge says

# %%
bug.report()

# %% [markdown]
# The solution, with the source and the reason why nobody noticed the bug:

# %%
print("You said:", GUESS)
print("Wrong:   ", bug.wrong)
print("Right:   ", bug.right)
print("Source:  ", bug.source)
print("Unseen:  ", bug.unseen)
print("Lesson:  ", bug.lesson)

# %% [markdown]
# The corrected version agrees:

# %%
print(bug.corrected().sentence)

# %% [markdown]
# ## Another one, with its code
#
# `faulty` and `sound` are the functions themselves. What is wrong with this gradient of an embedding?

# %%
another = EXHIBITS["embedding-repeats"]
print(inspect.getsource(another.faulty))

# %%
print(another.report().sentence)

# %% [markdown]
# ## All of them
#
# `backproof museum` shows them all on the terminal, and `backproof museum --html museum.html` writes a page to browse.
# A few of them, with the first line of each report:

# %%
for name in ("bias-mean", "log-softmax", "batch-norm-constants", "max-ties", "stale-weights"):
    print(f"{name}\n    {EXHIBITS[name].report().sentence}")
