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
# Some forty bugs that public projects shipped in a backward pass or an update, rebuilt in a few lines each. Look at the
# evidence, guess, and then ask the judge. Everything here needs JAX, in which the judge does its work.

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
# It trains. Who looks at the solid line alone sees nothing wrong:

# %% mystnb={"image": {"alt": "Two loss curves that fall, with the bug and without."}}
with_bug, without = bug.training_curves()
figure, axes = plt.subplots(figsize=(5, 2.6), dpi=80, layout="constrained")
axes.plot(with_bug, label="as shipped")
axes.plot(without, "--", label="mended")
axes.set(xlabel="step", ylabel="loss")
axes.legend()
plt.show()

# %% [markdown]
# And there was a check. What it did, and what it said of the bug:

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
# And the solution, with the source and the reason why nobody saw it:

# %%
print("You said:", GUESS)
print("Wrong:   ", bug.wrong)
print("Right:   ", bug.right)
print("Source:  ", bug.source)
print("Unseen:  ", bug.unseen)
print("Lesson:  ", bug.lesson)

# %% [markdown]
# Mended, it agrees:

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
# `backproof museum` shows them all on the terminal, and `backproof museum --html museum.html` makes a page to look
# around in. A table of a few of them, by what the judge says first:

# %%
for name in ("bias-mean", "log-softmax", "batch-norm-constants", "max-ties", "stale-weights"):
    print(f"{name}\n    {EXHIBITS[name].report().sentence}")
