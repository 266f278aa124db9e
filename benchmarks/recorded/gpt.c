/* A GPT in C, its derivatives derived by hand, that records two steps of AdamW: gpt OUT.

   B sequences of T tokens, N = B T positions; width C in H heads of D; L layers; V tokens. A matrix W of a linear layer is
   (out, in), as PyTorch has it, and y = W x + b. Every forward function has its backward function beside it, which adds
   to the gradients that it is given. */
#include <math.h>
#include <stdint.h>

#include "backproof_record.h"

enum { B = 2, T = 6, C = 8, H = 2, D = C / H, L = 4, V = 13, N = B * T, STEPS = 2 };

/* ------------------------------------------------------------------------------------------- parameters */

typedef struct {
    char name[40];
    size_t rows, columns; /* a vector has 0 columns */
    float *p, *g, *m, *v; /* values, gradients, first and second moments */
} parameter;

static parameter all[4 + 12 * L];
static int count;

static float uniform(void) { /* between -1 and 1 */
    static uint32_t state = 1;
    state = 1664525u * state + 1013904223u;
    return (float)(state >> 8) / (1 << 23) - 1;
}

static size_t size(const parameter *a) { return a->rows * (a->columns ? a->columns : 1); }

static parameter *create(const char *name, size_t rows, size_t columns, float mean, float scale) {
    parameter *a = &all[count++];
    snprintf(a->name, sizeof a->name, "%s", name);
    a->rows = rows;
    a->columns = columns;
    a->p = calloc(4 * size(a), sizeof(float));
    if (!a->p) exit(1);
    a->g = a->p + size(a), a->m = a->g + size(a), a->v = a->m + size(a);
    for (size_t i = 0; i < size(a); i++) a->p[i] = mean + scale * uniform();
    return a;
}

typedef struct { parameter *weight, *bias; } pair;

static pair named_pair(int layer, const char *name, size_t rows, size_t columns, float mean) {
    char text[40], prefix[20] = "";
    pair made;
    if (layer >= 0) snprintf(prefix, sizeof prefix, "blocks.%d.", layer);
    snprintf(text, sizeof text, "%s%s.weight", prefix, name);
    made.weight = create(text, rows, columns, mean, columns ? 1 / sqrtf((float)columns) : 0.1f);
    snprintf(text, sizeof text, "%s%s.bias", prefix, name);
    made.bias = create(text, rows, 0, 0, 0.1f);
    return made;
}

/* ----------------------------------------------------------------------------------------------- layers */

static void linear(float *y, const float *x, pair w, int out, int in) {
    for (int n = 0; n < N; n++)
        for (int o = 0; o < out; o++) {
            float sum = w.bias->p[o];
            for (int i = 0; i < in; i++) sum += w.weight->p[o * in + i] * x[n * in + i];
            y[n * out + o] = sum;
        }
}

static void linear_backward(float *dx, const float *dy, const float *x, pair w, int out, int in) {
    for (int n = 0; n < N; n++)
        for (int o = 0; o < out; o++) {
            w.bias->g[o] += dy[n * out + o];
            for (int i = 0; i < in; i++) {
                w.weight->g[o * in + i] += dy[n * out + o] * x[n * in + i];
                dx[n * in + i] += w.weight->p[o * in + i] * dy[n * out + o];
            }
        }
}

/* s is the standard deviation; x_hat = (x - mean) / s, y = weight x_hat + bias. */
static void norm(float *y, float *x_hat, float *s, const float *x, pair w) {
    for (int n = 0; n < N; n++) {
        float mean = 0, variance = 0;
        for (int c = 0; c < C; c++) mean += x[n * C + c] / C;
        for (int c = 0; c < C; c++) variance += (x[n * C + c] - mean) * (x[n * C + c] - mean) / C;
        s[n] = sqrtf(variance + 1e-5f);
        for (int c = 0; c < C; c++) {
            x_hat[n * C + c] = (x[n * C + c] - mean) / s[n];
            y[n * C + c] = w.weight->p[c] * x_hat[n * C + c] + w.bias->p[c];
        }
    }
}

/* dx = (g - mean(g) - x_hat mean(g x_hat)) / s, with g = weight dy. */
static void norm_backward(float *dx, const float *dy, const float *x_hat, const float *s, pair w) {
    for (int n = 0; n < N; n++) {
        float mean = 0, along = 0;
        for (int c = 0; c < C; c++) {
            float g = w.weight->p[c] * dy[n * C + c];
            mean += g / C;
            along += g * x_hat[n * C + c] / C;
            w.weight->g[c] += dy[n * C + c] * x_hat[n * C + c];
            w.bias->g[c] += dy[n * C + c];
        }
        for (int c = 0; c < C; c++) {
            float g = w.weight->p[c] * dy[n * C + c];
            dx[n * C + c] += (g - mean - x_hat[n * C + c] * along) / s[n];
        }
    }
}

static const float ROOT = 0.7978845608f; /* sqrt(2 / pi) */

static void gelu(float *y, const float *x, int length) {
    for (int i = 0; i < length; i++) y[i] = 0.5f * x[i] * (1 + tanhf(ROOT * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
}

static void gelu_backward(float *dx, const float *dy, const float *x, int length) {
    for (int i = 0; i < length; i++) {
        float t = tanhf(ROOT * (x[i] + 0.044715f * x[i] * x[i] * x[i]));
        float inner = ROOT * (1 + 3 * 0.044715f * x[i] * x[i]);
        dx[i] += dy[i] * (0.5f * (1 + t) + 0.5f * x[i] * (1 - t * t) * inner);
    }
}

/* A position of qkv is q, k and v one after another, each C long. a (T, T) are the attention weights of a head. */
static void attention(float *y, float a[B][H][T][T], const float *qkv) {
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++)
            for (int t = 0; t < T; t++) {
                const float *q = qkv + (b * T + t) * 3 * C + h * D;
                float *row = a[b][h][t], largest = -INFINITY, sum = 0;
                for (int u = 0; u <= t; u++) {
                    const float *k = qkv + (b * T + u) * 3 * C + C + h * D;
                    row[u] = 0;
                    for (int d = 0; d < D; d++) row[u] += q[d] * k[d];
                    row[u] /= sqrtf(D);
                    largest = fmaxf(largest, row[u]);
                }
                for (int u = 0; u <= t; u++) sum += row[u] = expf(row[u] - largest);
                for (int u = 0; u <= t; u++) row[u] /= sum;
                for (int d = 0; d < D; d++) {
                    float mixed = 0;
                    for (int u = 0; u <= t; u++) mixed += row[u] * qkv[(b * T + u) * 3 * C + 2 * C + h * D + d];
                    y[(b * T + t) * C + h * D + d] = mixed;
                }
            }
}

static void attention_backward(float *dqkv, const float *dy, float a[B][H][T][T], const float *qkv) {
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++)
            for (int t = 0; t < T; t++) {
                const float *g = dy + (b * T + t) * C + h * D, *row = a[b][h][t];
                const float *q = qkv + (b * T + t) * 3 * C + h * D;
                float *dq = dqkv + (b * T + t) * 3 * C + h * D, drow[T], along = 0;
                for (int u = 0; u <= t; u++) { /* y = sum over u of row[u] v_u */
                    const float *v = qkv + (b * T + u) * 3 * C + 2 * C + h * D;
                    float *dv = dqkv + (b * T + u) * 3 * C + 2 * C + h * D;
                    drow[u] = 0;
                    for (int d = 0; d < D; d++) {
                        drow[u] += g[d] * v[d];
                        dv[d] += row[u] * g[d];
                    }
                    along += row[u] * drow[u];
                }
                for (int u = 0; u <= t; u++) { /* row = softmax(q k / sqrt(D)) */
                    const float *k = qkv + (b * T + u) * 3 * C + C + h * D;
                    float *dk = dqkv + (b * T + u) * 3 * C + C + h * D;
                    float dscore = row[u] * (drow[u] - along) / sqrtf(D);
                    for (int d = 0; d < D; d++) {
                        dq[d] += dscore * k[d];
                        dk[d] += dscore * q[d];
                    }
                }
            }
}

/* ---------------------------------------------------------------------------------------------- network */

typedef struct {
    pair norm1, qkv, projection, norm2, up, down;
    float n1[N * C], n1_hat[N * C], s1[N], qkv_out[N * 3 * C], a[B][H][T][T], mixed[N * C];
    float middle[N * C], n2[N * C], n2_hat[N * C], s2[N], u[N * 4 * C], g[N * 4 * C];
    float dout[N * C]; /* the gradient with respect to what the block returns */
} block;

static parameter *token, *position;
static block blocks[L];
static pair last_norm;
static float x[L + 1][N * C], last[N * C], last_hat[N * C], last_s[N], dlogits[N][V];
static int32_t ids[N], targets[N];

static void build(void) {
    token = create("token.weight", V, C, 0, 1);
    position = create("position.weight", T, C, 0, 1);
    for (int l = 0; l < L; l++) {
        block *k = &blocks[l];
        k->norm1 = named_pair(l, "norm1", C, 0, 1);
        k->qkv = named_pair(l, "qkv", 3 * C, C, 0);
        k->projection = named_pair(l, "projection", C, C, 0);
        k->norm2 = named_pair(l, "norm2", C, 0, 1);
        k->up = named_pair(l, "up", 4 * C, C, 0);
        k->down = named_pair(l, "down", C, 4 * C, 0);
    }
    last_norm = named_pair(-1, "norm", C, 0, 1);
}

static void add(float *sum, const float *more, int length) {
    for (int i = 0; i < length; i++) sum[i] += more[i];
}

static float forward(void) {
    float loss = 0, out[N * C];
    for (int n = 0; n < N; n++)
        for (int c = 0; c < C; c++) x[0][n * C + c] = token->p[ids[n] * C + c] + position->p[n % T * C + c];
    for (int l = 0; l < L; l++) {
        block *k = &blocks[l];
        norm(k->n1, k->n1_hat, k->s1, x[l], k->norm1);
        linear(k->qkv_out, k->n1, k->qkv, 3 * C, C);
        attention(k->mixed, k->a, k->qkv_out);
        linear(k->middle, k->mixed, k->projection, C, C);
        add(k->middle, x[l], N * C);
        norm(k->n2, k->n2_hat, k->s2, k->middle, k->norm2);
        linear(k->u, k->n2, k->up, 4 * C, C);
        gelu(k->g, k->u, N * 4 * C);
        linear(out, k->g, k->down, C, 4 * C);
        memcpy(x[l + 1], k->middle, sizeof out);
        add(x[l + 1], out, N * C);
    }
    norm(last, last_hat, last_s, x[L], last_norm);
    for (int n = 0; n < N; n++) {
        float logits[V], largest = -INFINITY, sum = 0;
        for (int v = 0; v < V; v++) {
            logits[v] = 0;
            for (int c = 0; c < C; c++) logits[v] += last[n * C + c] * token->p[v * C + c];
            largest = fmaxf(largest, logits[v]);
        }
        for (int v = 0; v < V; v++) sum += expf(logits[v] - largest);
        loss -= (logits[targets[n]] - largest - logf(sum)) / N;
        for (int v = 0; v < V; v++) dlogits[n][v] = (expf(logits[v] - largest) / sum - (v == targets[n])) / N;
    }
    return loss;
}

static void backward(void) {
    float dlast[N * C] = {0}, dx[N * C] = {0};
    for (int i = 0; i < count; i++) memset(all[i].g, 0, size(&all[i]) * sizeof(float));
    for (int n = 0; n < N; n++)
        for (int v = 0; v < V; v++)
            for (int c = 0; c < C; c++) {
                dlast[n * C + c] += dlogits[n][v] * token->p[v * C + c];
                token->g[v * C + c] += dlogits[n][v] * last[n * C + c];
            }
    norm_backward(dx, dlast, last_hat, last_s, last_norm);
    for (int l = L - 1; l >= 0; l--) { /* dx is the gradient of the stream, first after the block, then before it */
        block *k = &blocks[l];
        float dg[N * 4 * C] = {0}, du[N * 4 * C] = {0}, dn2[N * C] = {0};
        float dmixed[N * C] = {0}, dqkv[N * 3 * C] = {0}, dn1[N * C] = {0};
        memcpy(k->dout, dx, sizeof dx);
        linear_backward(dg, dx, k->g, k->down, C, 4 * C);
        gelu_backward(du, dg, k->u, N * 4 * C);
        linear_backward(dn2, du, k->n2, k->up, 4 * C, C);
        norm_backward(dx, dn2, k->n2_hat, k->s2, k->norm2);
        linear_backward(dmixed, dx, k->mixed, k->projection, C, C);
        attention_backward(dqkv, dmixed, k->a, k->qkv_out);
        linear_backward(dn1, dqkv, k->n1, k->qkv, 3 * C, C);
        norm_backward(dx, dn1, k->n1_hat, k->s1, k->norm1);
    }
    for (int n = 0; n < N; n++)
        for (int c = 0; c < C; c++) {
            token->g[ids[n] * C + c] += dx[n * C + c];
            position->g[n % T * C + c] += dx[n * C + c];
        }
}

static void adamw(int step) {
    const float rate = 0.01f, beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f, decay = 0.01f;
    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < size(&all[i]); j++) {
            float g = all[i].g[j], *p = &all[i].p[j], *m = &all[i].m[j], *v = &all[i].v[j];
            *m = beta1 * *m + (1 - beta1) * g;
            *v = beta2 * *v + (1 - beta2) * g * g;
            float m_hat = *m / (float)(1 - pow(0.9, step)), v_hat = *v / (float)(1 - pow(0.999, step));
            *p -= rate * (m_hat / (sqrtf(v_hat) + epsilon) + decay * *p);
        }
}

/* -------------------------------------------------------------------------------------------- recording */

static void record_all(bp_recording *record, const char *part, int gradients) {
    for (int i = 0; i < count; i++) {
        char name[64];
        size_t shape[2];
        shape[0] = all[i].rows;
        shape[1] = all[i].columns;
        snprintf(name, sizeof name, "%s/%.39s", part, all[i].name);
        bp_tensor(record, name, BP_F32, gradients ? all[i].g : all[i].p, all[i].columns ? 2 : 1, shape);
    }
}

int main(int arguments, char **values) {
    bp_recording record;
    if (arguments != 2 || bp_open(&record, values[1]) != 0) return 2;
    build();
    for (int step = 1; step <= STEPS; step++) {
        for (int n = 0; n < N; n++) ids[n] = (int32_t)((uniform() + 1) / 2 * V), targets[n] = (int32_t)((uniform() + 1) / 2 * V);
        float loss = forward();
        backward();
        bp_step(&record, step);
        record_all(&record, "parameters", 0);
        bp_matrix(&record, "inputs/ids", BP_I32, ids, B, T);
        bp_matrix(&record, "inputs/targets", BP_I32, targets, B, T);
        bp_scalar(&record, "loss", BP_F32, &loss);
        for (int l = L - 1; l >= 0; l--) {
            char name[40];
            size_t shape[3] = {B, T, C};
            snprintf(name, sizeof name, "intermediates/blocks.%d", l);
            bp_tensor(&record, name, BP_F32, blocks[l].dout, 3, shape);
        }
        record_all(&record, "gradients", 1);
        adamw(step);
        record_all(&record, "next", 0);
    }
    for (int i = 0; i < count; i++) free(all[i].p);
    return bp_close(&record) == 0 ? 0 : 1;
}
