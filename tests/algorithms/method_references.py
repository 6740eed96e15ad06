"""Each method in a few lines of NumPy, float64, from its paper.

A client is its list of batches (x, y); a round is the dict of its clients by number.
Weights are one vector: a softmax model's kernel [features, classes], then its bias.
"""

import functools

import numpy as np

FEATURES, HIDDEN, CLASSES = 4, 8, 3
RATE = 0.3
SIZE = (FEATURES + 1) * CLASSES


def logits(w, x):
    kernel, bias = w[: FEATURES * CLASSES], w[FEATURES * CLASSES :]
    return x @ kernel.reshape(FEATURES, CLASSES) + bias


def probabilities(scores):
    exponents = np.exp(scores - scores.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def loss(w, batch):
    x, y = batch
    return -np.mean(np.log(probabilities(logits(w, x))[np.arange(len(y)), y]))


def gradient(w, batch, margin=0.0, factor=1.0):
    """Of the mean cross-entropy of `factor * logits - margin`."""
    x, y = batch
    error = factor * (
        probabilities(factor * logits(w, x) - margin) - np.eye(CLASSES)[y]
    )
    return np.concatenate([(x.T @ error).ravel(), error.sum(0)]) / len(y)


def whole(batches):
    return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def examples(batches):
    return sum(len(y) for _, y in batches)


def sgd(w, batches, direction=gradient, rate=RATE, momentum=0.0):
    velocity = 0.0
    for batch in batches:
        velocity = momentum * velocity + direction(w, batch)
        w = w - rate * velocity
    return w


def weighted(clients, values, uniform=False):
    sizes = [1 if uniform else examples(b) for b in clients.values()]
    return sum(n * v for n, v in zip(sizes, values, strict=True)) / sum(sizes)


def fed_avg(w, rounds, direction=gradient, step=lambda w, delta, t: w - delta, **how):
    for t, clients in enumerate(rounds):
        deltas = [w - sgd(w, batches, direction) for batches in clients.values()]
        w = step(w, weighted(clients, deltas, **how), t)
    return w


def ridge(rounds, penalty):
    """Of the last round's examples; the bias is not penalised."""
    x, y = whole([b for mine in rounds[-1].values() for b in mine])
    target, mean = 2 * np.eye(CLASSES)[y] - 1, x.mean(0)
    squares = (x - mean).T @ (x - mean) + penalty * np.eye(FEATURES)
    kernel = np.linalg.inv(squares) @ (x - mean).T @ (target - target.mean(0))
    return np.concatenate([kernel.ravel(), target.mean(0) - mean @ kernel])


def prototype(rounds):
    """Distances to the class means of the last round's examples, as linear scores."""
    x, y = whole([b for mine in rounds[-1].values() for b in mine])
    means = np.stack([x[y == c].mean(0) for c in range(CLASSES)])
    return np.concatenate([means.T.ravel(), -0.5 * (means**2).sum(1)])


def central(w, rounds, momentum):
    """One optimizer over the batches of all rounds."""
    batches = [b for clients in rounds for mine in clients.values() for b in mine]
    return sgd(w, batches, momentum=momentum)


def fed_sgd(w, rounds):
    for clients in rounds:
        found = [gradient(w, whole(batches)) for batches in clients.values()]
        w = w - weighted(clients, found)
    return w


def towards(start, mu, variate=0.0):
    return lambda at, batch: gradient(at, batch) - variate + mu * (at - start)


def fed_prox(w, rounds, mu):
    for clients in rounds:
        start = w
        deltas = [start - sgd(start, b, towards(start, mu)) for b in clients.values()]
        w = start - weighted(clients, deltas)
    return w


def minus(variate):
    return lambda at, batch: gradient(at, batch) - variate


def scaffold(w, rounds, population, option, uniform=True):
    server, own = np.zeros(SIZE), {}
    for clients in rounds:
        deltas, moves = [], []
        for number, batches in clients.items():
            mine = own.get(number, np.zeros(SIZE))
            after = sgd(w, batches, minus(mine - server))
            if option == 'I':
                now = gradient(w, whole(batches))
            else:
                now = mine - server + (w - after) / (len(batches) * RATE)
            deltas.append(w - after)
            moves.append(now - mine)
            own[number] = now
        w = w - weighted(clients, deltas, uniform)
        server = server + len(clients) / population * weighted(clients, moves, uniform)
    return w, server, own


def mime_lite(w, rounds, momentum, lite=True):
    """With momentum SGD, whose buffer stays while clients train."""
    buffer = np.zeros(SIZE)
    for clients in rounds:
        full = [gradient(w, whole(batches)) for batches in clients.values()]
        center = weighted(clients, full)
        deltas = []
        for batches in clients.values():
            at = w
            for batch in batches:
                g = gradient(at, batch)
                if not lite:
                    g = g - gradient(w, batch) + center
                at = at - RATE * (momentum * buffer + g)
            deltas.append(w - at)
        w = w - weighted(clients, deltas)
        buffer = momentum * buffer + center
    return w


def fed_nova(w, rounds, momentum=0.0, mu=0.0):
    for clients in rounds:
        start, normalised, norms = w, [], []
        for batches in clients.values():
            after = sgd(
                start,
                batches,
                towards(start, mu),
                momentum=momentum,
            )
            # The same steps of a scalar whose every gradient is 1.
            norm = (
                -sgd(0.0, batches, lambda at, _: 1 + mu * at, momentum=momentum) / RATE
            )
            normalised.append((start - after) / (RATE * norm))
            norms.append(norm)
        effective = weighted(clients, norms)
        w = start - effective * RATE * weighted(clients, normalised)
    return w


def fed_dyn(w, rounds, population, alpha):
    own, h = {}, np.zeros(SIZE)
    for clients in rounds:
        start, found = w, []
        for number, batches in clients.items():
            last = own.get(number, np.zeros(SIZE))
            after = sgd(start, batches, towards(start, alpha, last))
            own[number] = last - alpha * (after - start)
            found.append(after)
        h = h - alpha / population * sum(f - start for f in found)
        w = weighted(clients, found, uniform=True) - h / alpha
    return w


def fed_exp(w, rounds, epsilon):
    before = w
    for clients in rounds:
        deltas = [w - sgd(w, batches) for batches in clients.values()]
        mean = weighted(clients, deltas, uniform=True)
        squares = sum(d @ d for d in deltas)
        rate = max(1, squares / (2 * len(deltas) * (mean @ mean + epsilon)))
        before, w = w, w - rate * mean
    return (before + w) / 2


def q_fed_avg(w, rounds, q):
    lipschitz = 1 / RATE
    for clients in rounds:
        deltas, h = [], []
        for batches in clients.values():
            risk = loss(w, whole(batches))
            step = lipschitz * (w - sgd(w, batches))
            deltas.append(risk**q * step)
            h.append(q * risk ** (q - 1) * (step @ step) + lipschitz * risk**q)
        w = w - sum(deltas) / sum(h)
    return w


def fed_sam(w, rounds, rho):
    def direction(at, batch):
        g = gradient(at, batch)
        return gradient(at + rho * g / np.linalg.norm(g), batch)

    return fed_avg(w, rounds, direction)


def cosine(a, b):
    """Of rows, and its gradient with respect to `a`."""
    across, length = np.linalg.norm(b, axis=1), np.linalg.norm(a, axis=1)
    assert across.min() > 1e-3 and length.min() > 1e-3
    found = (a * b).sum(1) / (length * across)
    by_a = b / (length * across)[:, None] - (found / length**2)[:, None] * a
    return found, by_a


def net_parts(w):
    """Returns kernels and biases of a network with one hidden layer of ReLUs."""
    cuts = np.cumsum([FEATURES * HIDDEN, HIDDEN, HIDDEN * CLASSES])
    first, shift, last, bias = np.split(w, cuts)
    return first.reshape(-1, HIDDEN), shift, last.reshape(HIDDEN, -1), bias


def represented(w, x):
    """Returns what the hidden layer gives."""
    first, shift, _, _ = net_parts(w)
    return np.maximum(x @ first + shift, 0)


def net_gradient(w, batch, margin=0.0, pull=lambda z, batch: 0.0):
    """Of the network's mean cross-entropy of `logits - margin`.

    Labels may be probabilities, [batch, classes]. `pull` is the gradient of what is
    added to it with respect to the hidden layer's output z.
    """
    x, y = batch
    target = y if np.ndim(y) == 2 else np.eye(CLASSES)[y]
    _, _, last, bias = net_parts(w)
    z = represented(w, x)
    scores = z @ last + bias - margin
    error = (probabilities(scores) - target) / len(y)
    by_z = (error @ last.T + pull(z, batch)) * (z > 0)
    gradients = x.T @ by_z, by_z.sum(0), z.T @ error, error.sum(0)
    return np.concatenate([g.ravel() for g in gradients])


def moon(w, rounds, mu, temperature):
    own = {}
    for clients in rounds:
        start, found = w, []
        for number, batches in clients.items():
            previous = own.get(number, start)

            def pull(z, batch, start=start, previous=previous):
                x, y = batch
                near, by_near = cosine(z, represented(start, x))
                far, by_far = cosine(z, represented(previous, x))
                # Of -log(exp(near / t) / (exp(near / t) + exp(far / t))).
                share = 1 / (1 + np.exp((near - far) / temperature))
                return mu / temperature / len(y) * share[:, None] * (by_far - by_near)

            own[number] = sgd(
                start, batches, functools.partial(net_gradient, pull=pull)
            )
            found.append(own[number])
        w = weighted(clients, found)
    return w


def calibrated(w, rounds, how):
    """FedLC and FedRS; `how` makes of a client's counts of labels what changes."""
    for clients in rounds:
        deltas = []
        for batches in clients.values():
            counts = np.bincount(whole(batches)[1], minlength=CLASSES)
            changed = functools.partial(gradient, **how(counts))
            deltas.append(w - sgd(w, batches, changed))
        w = w - weighted(clients, deltas)
    return w


def not_true(w, batch, tau):
    """Returns the softmax over the classes that are not each example's, at tau."""
    x, y = batch
    exponents = np.exp(logits(w, x) / tau) * (1 - np.eye(CLASSES)[y])
    return exponents / exponents.sum(1, keepdims=True)


def fed_ntd(w, rounds, beta, tau):
    for clients in rounds:

        def direction(at, batch, start=w):
            error = not_true(at, batch, tau) - not_true(start, batch, tau)
            error = error / tau / len(batch[1])
            kept = np.concatenate([(batch[0].T @ error).ravel(), error.sum(0)])
            return gradient(at, batch) + beta * kept

        w = weighted(clients, [sgd(w, b, direction) for b in clients.values()])
    return w


def fed_df(w, rounds, public, rate):
    """Of the network; `public` has for each round the batches of the public x, y."""

    def answers(at, x):
        _, _, last, bias = net_parts(at)
        return represented(at, x) @ last + bias

    for clients, batches in zip(rounds, public, strict=True):
        models = [sgd(w, mine, net_gradient) for mine in clients.values()]
        w, first, second = weighted(clients, models), 0.0, 0.0
        for t, (x, _) in enumerate(batches, 1):
            taught = probabilities(sum(answers(m, x) for m in models) / len(models))
            g = net_gradient(w, (x, taught))
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            # TFF's Adam, whose epsilon is added before the bias is corrected.
            down = (np.sqrt(second) + 1e-7) / np.sqrt(1 - 0.999**t)
            w = w - rate * first / (1 - 0.9**t) / down
    return w


def ccvr(w, rounds, draws, batch=64, ridge=1e-6):
    """`draws` has of each round normals [classes, n, features] and an order of rows."""
    for clients, (normals, order) in zip(rounds, draws, strict=True):
        x, y = whole([b for mine in clients.values() for b in mine])
        counts = np.bincount(y, minlength=CLASSES)
        drawn, labels = [], []
        for c in range(CLASSES):
            mine = x[y == c] if counts[c] > 1 else np.zeros([2, FEATURES])
            covariance = np.cov(mine, rowvar=False)
            more = max(ridge * np.trace(covariance) / FEATURES, ridge**2)
            factor = np.linalg.cholesky(covariance + more * np.eye(FEATURES))
            drawn.append(mine.mean(0) + normals[c] @ factor.T)
            labels += [c] * len(normals[c])
        drawn, labels = np.concatenate(drawn), np.array(labels)
        known = counts > 1
        last = w
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            rows = rows[known[labels[rows]]]
            if len(rows):
                never = np.where(known, 0, np.inf)
                step = gradient(last, (drawn[rows], labels[rows]), margin=never)
                last = last - RATE * step
        w = weighted(clients, [sgd(w, b) for b in clients.values()])
    return last


def in_batches(x, y, size):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(y), size)]


def stopped_early(w, batches, epochs, fraction, patience, direction=gradient):
    """Returns the best weights, the losses by passes, and the training examples."""
    size = len(batches[0][1])
    x, y = whole(batches)
    cut = len(y) - int(fraction * len(y))
    training, held = in_batches(x[:cut], y[:cut], size), (x[cut:], y[cut:])
    at, best, losses = w, w, [loss(w, held)] if len(held[1]) else []
    for _ in range(epochs):
        at = sgd(at, training, direction)
        if not losses:  # There is nothing to judge by.
            best = at
            continue
        losses.append(loss(at, held))
        if losses[-1] == min(losses):
            best = at
        if len(losses) - 1 - np.argmin(losses) == patience:
            break
    return best, losses, cut


def joint_ft(w, rounds, epochs, fraction, patience, told=None):
    """Appends to `told` the losses of each client and round, if it is given."""
    for clients in rounds:
        found = [
            stopped_early(w, batches, epochs, fraction, patience)
            for batches in clients.values()
        ]
        cuts = [cut for _, _, cut in found]
        w = sum(n * best for best, _, n in found) / sum(cuts)
        if told is not None:
            told.append([losses for _, losses, _ in found])
    return w
