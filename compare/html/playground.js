// A network that the reader can change and break. The functions up to `train` compute the lines of the lesson, and a test
// compares them with `manual`. Arrays are indexed as x[feature][example], y[example], W1[unit][feature], b1[unit] and
// W2[unit]; b2 is a number. `broken` is the name of the wrong line, or "".
const sum = (values) => values.reduce((total, value) => total + value, 0);
const sigmoid = (z) => (z >= 0 ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / (1 + Math.exp(z)));
const ACTIVATIONS = {
  tanh: [Math.tanh, (a) => 1 - a * a, (a, z) => 1 - z * z],
  relu: [(z) => Math.max(z, 0), (a, z) => Number(z > 0), (a) => a],
  sigmoid: [sigmoid, (a) => a * (1 - a), (a) => 1 - a],
}; // the function, its derivative as a function of value and input, and a wrong derivative

function forward(p, x, activation) {
  const f = ACTIVATIONS[activation][0];
  const Z1 = p.W1.map((row, i) => x[0].map((_, k) => p.b1[i] + sum(row.map((w, j) => w * x[j][k]))));
  const A1 = Z1.map((row) => row.map(f));
  const Z2 = x[0].map((_, k) => p.b2 + sum(p.W2.map((w, i) => w * A1[i][k])));
  return { Z1, A1, Z2, A2: Z2.map(sigmoid) };
}

function lossOf(p, x, y, activation) {
  const { Z2 } = forward(p, x, activation);
  return sum(Z2.map((z, k) => Math.max(z, 0) - y[k] * z + Math.log1p(Math.exp(-Math.abs(z))))) / y.length;
}

function gradients(p, x, y, activation, broken) {
  const { Z1, A1, A2 } = forward(p, x, activation);
  const m = y.length;
  const slope = ACTIVATIONS[activation][broken === "dZ1" ? 2 : 1];
  const dZ2 = A2.map((a, k) => (a - y[k]) / (broken === "dZ2" ? 1 : m));
  const dW2 = (broken === "dW2" ? Z1 : A1).map((row) => sum(row.map((a, k) => a * dZ2[k])));
  const db2 = sum(dZ2) / (broken === "db2" ? m : 1);
  const dA1 = p.W2.map((w) => dZ2.map((d) => (broken === "dA1" ? -w : w) * d));
  const dZ1 = dA1.map((row, i) => row.map((d, k) => d * slope(A1[i][k], Z1[i][k])));
  const dW1 = dZ1.map((row) => x.map((feature) => sum(feature.map((v, k) => v * row[k])) / (broken === "dW1" ? m : 1)));
  const db1 = dZ1.map((row) => sum(row) / (broken === "db1" ? m : 1));
  return { W1: dW1, b1: db1, W2: dW2, b2: db2 };
}

// The gradient by central differences of the loss.
function differences(p, x, y, activation, step) {
  const moved = (change) => {
    const q = { W1: p.W1.map((row) => [...row]), b1: [...p.b1], W2: [...p.W2], b2: p.b2 };
    change(q);
    return lossOf(q, x, y, activation);
  };
  const slope = (move) => (moved((q) => move(q, step)) - moved((q) => move(q, -step))) / (2 * step);
  return {
    W1: p.W1.map((row, i) => row.map((_, j) => slope((q, h) => { q.W1[i][j] += h; }))),
    b1: p.b1.map((_, i) => slope((q, h) => { q.b1[i] += h; })),
    W2: p.W2.map((_, i) => slope((q, h) => { q.W2[i] += h; })),
    b2: slope((q, h) => { q.b2 += h; }),
  };
}

// The norm of the difference of two gradients divided by the larger of their norms; 0 if both norms are below 1e-9.
function distance(one, other) {
  const [a, b] = [[one].flat(2), [other].flat(2)];
  const norm = (values) => Math.sqrt(sum(values.map((v) => v * v)));
  const scale = Math.max(norm(a), norm(b));
  return scale < 1e-9 ? 0 : norm(a.map((v, i) => v - b[i])) / scale;
}

function updated(p, d, rate) {
  return {
    W1: p.W1.map((row, i) => row.map((w, j) => w - rate * d.W1[i][j])),
    b1: p.b1.map((b, i) => b - rate * d.b1[i]),
    W2: p.W2.map((w, i) => w - rate * d.W2[i]),
    b2: p.b2 - rate * d.b2,
  };
}

function train(p, x, y, activation, broken, rate, steps) {
  const losses = [lossOf(p, x, y, activation)];
  for (let step = 0; step < steps; step += 1) {
    p = updated(p, gradients(p, x, y, activation, broken), rate);
    losses.push(lossOf(p, x, y, activation));
  }
  return { p, losses };
}

// Initial weights that depend only on the number of units: a 32-bit generator (mulberry32), with a sum of 12 uniform
// numbers in place of a normal one.
function initial(hidden) {
  let state = 1;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => sum(Array.from({ length: 12 }, uniform)) - 6;
  return {
    W1: Array.from({ length: hidden }, () => [normal(), normal()]),
    b1: Array(hidden).fill(0),
    W2: Array.from({ length: hidden }, () => normal() / Math.sqrt(hidden)),
    b2: 0,
  };
}

// ------------------------------------------------------------------------------------------- the page
const STEPS = 300;
const part = (name) => document.getElementById(`play-${name}`);

function play() {
  const [set, activation, broken] = ["data", "activation", "line"].map((name) => part(name).value);
  const [hidden, rate] = [part("hidden").valueAsNumber, Number(part("rate").value)];
  const { x, y } = data.play.data[set];
  part("units").textContent = hidden;
  const start = initial(hidden);
  const right = train(start, x, y, activation, "", rate, STEPS);
  const wrong = broken ? train(start, x, y, activation, broken, rate, STEPS) : null;
  showCode(activation, broken);
  showPlane((wrong || right).p, x, y, activation);
  showCurves(right.losses, wrong && wrong.losses);
  showJudgement(start, x, y, activation, broken);
  const end = (losses) => (Number.isFinite(losses.at(-1)) ? losses.at(-1).toPrecision(3) : "no number");
  const correct = (p) => forward(p, x, activation).A2.filter((a, k) => (a > 0.5) === (y[k] === 1)).length;
  const said = (run) => `the loss goes from ${run.losses[0].toPrecision(3)} to ${end(run.losses)}, and ${correct(run.p)} of ${y.length} examples are classified correctly`;
  part("said").textContent = wrong
    ? `In ${STEPS} steps with the wrong line, ${said(wrong)}. With the right line, ${said(right)}.`
    : `In ${STEPS} steps, ${said(right)}.`;
}

function showCode(activation, broken) {
  for (const [i, line] of data.play.lines[activation].entries()) {
    const place = part(`code-${i}`);
    place.textContent = line.name === broken ? line.wrong : line.right;
    place.className = line.name === broken ? "broken" : "";
  }
  const line = data.play.lines[activation].find((one) => one.name === broken);
  part("fault").textContent = line ? `${line.fault} The right line is` : "Every line is right.";
  part("instead").textContent = line ? line.right : "";
}

function showPlane(p, x, y, activation) {
  const canvas = part("plane");
  const [side, pen] = [canvas.width, canvas.getContext("2d")];
  const style = getComputedStyle(document.documentElement);
  const [ink, paper, blue] = ["--ink", "--paper", "--link"].map((name) => style.getPropertyValue(name));
  const low = x.map((feature) => Math.min(...feature) - 0.4);
  const high = x.map((feature) => Math.max(...feature) + 0.4);
  const cells = 48;
  const at = (i, j) => low[j] + ((i + 0.5) / cells) * (high[j] - low[j]);
  const grid = [[], []];
  for (let row = 0; row < cells; row += 1) {
    for (let column = 0; column < cells; column += 1) {
      grid[0].push(at(column, 0));
      grid[1].push(at(cells - 1 - row, 1));
    }
  }
  const { A2 } = forward(p, grid, activation);
  pen.fillStyle = paper;
  pen.fillRect(0, 0, side, side);
  pen.fillStyle = blue;
  A2.forEach((a, i) => {
    pen.globalAlpha = Number.isFinite(a) ? 0.6 * a : 0;
    pen.fillRect((i % cells) * (side / cells), Math.floor(i / cells) * (side / cells), side / cells, side / cells);
  });
  pen.globalAlpha = 1;
  pen.strokeStyle = ink;
  y.forEach((label, k) => {
    const [across, down] = [0, 1].map((j) => ((x[j][k] - low[j]) / (high[j] - low[j])) * side);
    pen.beginPath();
    pen.fillStyle = label ? ink : paper;
    pen.arc(across, side - down, 5, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
  });
}

function showCurves(right, wrong) {
  const highest = Math.min(Math.max(...[...right, ...(wrong || [])].filter(Number.isFinite)), 3 * right[0]);
  const path = (losses) => losses.map((loss, i) => {
    const height = Number.isFinite(loss) ? Math.min(loss, highest) : highest;
    return `${i ? "L" : "M"}${((300 * i) / STEPS).toFixed(1)} ${(100 - (96 * height) / highest).toFixed(1)}`;
  }).join("");
  part("right").setAttribute("d", path(right));
  part("wrong").setAttribute("d", wrong ? path(wrong) : "");
}

function showJudgement(p, x, y, activation, broken) {
  const by = gradients(p, x, y, activation, broken);
  const steps = [1e-5, 1e-6].map((step) => differences(p, x, y, activation, step)); // at relu's nonsmooth point one is off
  for (const name of ["W1", "b1", "W2", "b2"]) {
    const off = Math.min(...steps.map((reference) => distance(by[name], reference[name])));
    const verdict = off < 1e-5 ? "agree" : "disagree";
    part(`off-${name}`).textContent = off < 1e-5 ? "below 0.001%" : `${(100 * off).toPrecision(3)}%`;
    part(`verdict-${name}`).textContent = `${verdict === "agree" ? "✓" : "✗"} ${verdict}`;
    part(`verdict-${name}`).className = `verdict ${verdict}`;
  }
  const judged = data.play.verdicts[activation][broken];
  part("judge").textContent = judged.sentence;
  part("judge").className = judged.verdict;
}

for (const name of ["data", "hidden", "activation", "rate", "line"]) part(name).addEventListener("input", play);
part("all").hidden = false;
play();
