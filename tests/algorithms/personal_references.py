"""Personalised methods in a few lines of NumPy, float64, each from its paper.

Each gives the server's weights and every client's own model, by number.
"""

import functools

import numpy as np
from method_references import (
    CLASSES,
    FEATURES,
    HIDDEN,
    RATE,
    SIZE,
    gradient,
    logits,
    loss,
    net_gradient,
    probabilities,
    represented,
    sgd,
    towards,
    weighted,
    whole,
)


def ditto(w, rounds, lam):
    start, own = w, {}
    for clients in rounds:
        for number, batches in clients.items():
            own[number] = sgd(own.get(number, start), batches, towards(w, lam))
        w = w - weighted(clients, [w - sgd(w, b) for b in clients.values()])
    return w, own


def mr_mtl(w, rounds, lam):
    start, own = w, {}
    for clients in rounds:
        for number, batches in clients.items():
            own[number] = sgd(own.get(number, start), batches, towards(w, lam))
        w = weighted(clients, [own[number] for number in clients])
    return w, own


def apfl(w, rounds, alpha, adaptive=False):
    """Of an adaptive one, gives each client's alpha instead of the server's weights."""
    start, own, alphas = w, {}, {}
    for clients in rounds:
        found = []
        for number, batches in clients.items():
            v, at = own.get(number, start), w
            a = alphas.get(number, alpha)
            for batch in batches:
                of_mixture = gradient(a * v + (1 - a) * at, batch)
                next_a = np.clip(a - RATE * (v - at) @ of_mixture, 0, 1)
                at, v = at - RATE * gradient(at, batch), v - RATE * a * of_mixture
                a = next_a if adaptive else a
            own[number], alphas[number] = v, a
            found.append(at)
        w = weighted(clients, found)
    mixed = {n: alphas[n] * v + (1 - alphas[n]) * w for n, v in own.items()}
    return alphas if adaptive else w, mixed


def fed_amp(w, rounds, alpha, sigma, lam):
    start, own = w, {}
    for clients in rounds:
        before = dict(own)
        for number, batches in clients.items():
            mine = before.get(number, start)
            others = [model for other, model in before.items() if other != number]
            weights = [
                alpha * np.exp(-((mine - v) ** 2).sum() / sigma) / sigma for v in others
            ]
            most = max(1, sum(weights))
            mixture = (1 - sum(weights) / most) * mine
            for weight, model in zip(weights, others, strict=True):
                mixture = mixture + weight / most * model
            own[number] = sgd(mine, batches, towards(mixture, lam / alpha))
        w = weighted(clients, [own[number] for number in clients])
    return w, own


def p_fed_me(w, rounds, lam, steps, rate):
    start, own = w, {}
    for clients in rounds:
        found = []
        for number, batches in clients.items():
            theta, at = own.get(number, start), w
            for batch in batches:
                for _ in range(steps):
                    inner = gradient(theta, batch) + lam * (theta - at)
                    theta = theta - rate * inner
                at = at - RATE * lam * (at - theta)
            own[number] = theta
            found.append(at)
        w = weighted(clients, found)
    return w, own


def only(mask):
    return lambda at, batch: np.where(mask, gradient(at, batch), 0)


def fed_per(w, rounds, personal):
    """`personal` says of each weight whether it stays with the clients, bool."""
    start, own = w, {}
    for clients in rounds:
        found = []
        for number, batches in clients.items():
            after = sgd(np.where(personal, own.get(number, start), w), batches)
            own[number] = after
            found.append(after)
        w = np.where(personal, start, weighted(clients, found))
    return w, {number: np.where(personal, v, w) for number, v in own.items()}


def fed_rep(w, rounds, personal):
    start, own = w, {}
    for clients in rounds:
        found = []
        for number, batches in clients.items():
            mine = np.where(personal, own.get(number, start), w)
            ready = sgd(mine, batches, only(personal))
            own[number] = sgd(ready, batches, only(~personal))
            found.append(own[number])
        w = np.where(personal, start, weighted(clients, found))
    return w, {number: np.where(personal, v, w) for number, v in own.items()}


def nearest(models, batches):
    """Returns the number of the model of the least loss on all examples."""
    return int(np.argmin([loss(w, whole(batches)) for w in models]))


def ifca(models, rounds):
    """Returns the models and, for each round, how many clients took each."""
    models, taken = list(models), []
    for clients in rounds:
        choices = {number: nearest(models, b) for number, b in clients.items()}
        taken.append([[*choices.values()].count(each) for each in range(len(models))])
        for each in set(choices.values()):
            those = {n: b for n, b in clients.items() if choices[n] == each}
            found = [sgd(models[each], batches) for batches in those.values()]
            models[each] = weighted(those, found)
    return models, taken


def fed_rod(w, rounds):
    """Of a network with a hidden layer."""
    own = {}
    for clients in rounds:
        found = []
        for number, batches in clients.items():
            with np.errstate(divide='ignore'):
                prior = np.log(np.bincount(whole(batches)[1], minlength=CLASSES))
            at, mine = w, own.get(number, np.zeros_like(w))
            for batch in batches:
                generic = net_gradient(at, batch, -prior)
                of_sum = np.where(LAST, net_gradient(at + mine, batch), 0)
                at, mine = at - RATE * generic, mine - RATE * of_sum
            own[number] = mine
            found.append(at)
        w = weighted(clients, found)
    return w, {number: w + mine for number, mine in own.items()}


def held(prototypes, lam):
    """The gradient of lambda times the mean of squared differences from prototypes."""

    def pull(z, batch):
        apart = [a - prototypes.get(c, a) for a, c in zip(z, batch[1], strict=True)]
        return lam * 2 * np.array(apart) / z.size

    return pull


def fed_proto(start, rounds, lam, uniform=False, predictor='prototype'):
    """Of a network with a hidden layer; the server's is that of the start."""
    own, prototypes = {}, {}
    for clients in rounds:
        means, counts = {}, {}
        for number, batches in clients.items():
            direction = functools.partial(net_gradient, pull=held(prototypes, lam))
            own[number] = sgd(own.get(number, start), batches, direction)
            x, y = whole(batches)
            for c in np.unique(y):
                means.setdefault(c, []).append(
                    represented(own[number], x[y == c]).mean(0)
                )
                counts.setdefault(c, []).append(1 if uniform else (y == c).sum())
        prototypes |= {
            c: np.average(means[c], axis=0, weights=counts[c]) for c in means
        }
    if predictor == 'head':
        return start, own
    kernel = np.transpose([prototypes[c] for c in range(CLASSES)])
    last = np.concatenate([kernel.ravel(), -0.5 * (kernel**2).sum(0)])
    return start, {n: np.concatenate([w[~LAST], last]) for n, w in own.items()}


def fed_distill(start, rounds, gamma, uniform=False):
    """Returns own models, and of each class what each client said when some had it."""
    own, said = {}, {}
    for clients in rounds:
        heard, said_now = said, {}
        for number, batches in clients.items():
            teachers = {}
            for c, answers in heard.items():
                others = [a for n, a in answers.items() if n != number]
                if others:
                    weights = [1 if uniform else len(a) for a in others]
                    means = [np.mean(a, 0) for a in others]
                    teachers[c] = np.average(means, axis=0, weights=weights)
            at = own.get(number, start)
            for x, y in batches:
                p = probabilities(logits(at, x))
                for c, answer in zip(y, p, strict=True):
                    said_now.setdefault(c, {}).setdefault(number, []).append(answer)
                taught = [teachers.get(c, q) for c, q in zip(y, p, strict=True)]
                error = (p - np.eye(CLASSES)[y] + gamma * (p - taught)) / len(y)
                g = np.concatenate([(x.T @ error).ravel(), error.sum(0)])
                at = at - RATE * g
            own[number] = at
        said = said | said_now
    return own, said


def fed_ala(w, rounds, mixed, eta, share):
    """`mixed` says of each weight whether it is mixed, bool."""
    own, mixings = {}, {}
    for clients in rounds:
        found = []
        for number, batches in clients.items():
            before, m = own.get(number, w), mixings.get(number, np.ones_like(w))
            for batch in batches[: int(np.ceil(share * len(batches)))]:
                g = gradient(np.where(mixed, before + (w - before) * m, w), batch)
                m = np.clip(m - eta * g * (w - before), 0, 1)
            start = np.where(mixed, before + (w - before) * m, w)
            own[number], mixings[number] = sgd(start, batches), m
            found.append(own[number])
        w = weighted(clients, found)
    return w, own


# The last layer of that network.
NET = (FEATURES + 1) * HIDDEN + (HIDDEN + 1) * CLASSES
LAST = np.arange(NET) >= (FEATURES + 1) * HIDDEN

# The last weights of a softmax model, its bias.
BIAS = np.arange(SIZE) >= SIZE - 3


def fed_babu(w, rounds, head):
    for clients in rounds:
        found = [sgd(w, batches, only(~head)) for batches in clients.values()]
        w = weighted(clients, found)
    return w


def meta_gradient(at, batch, alpha, hessian=False, delta=1e-3):
    """Of the loss after a step, on rows by turns; each at least one."""
    parts = 3 if hessian else 2
    size = len(batch[1])
    outer, inner, *third = (
        tuple(part[min(n, size - 1) :: parts] for part in batch) for n in range(parts)
    )
    g = gradient(at - alpha * gradient(at, inner), outer)
    for part in third:
        up, down = gradient(at + delta * g, part), gradient(at - delta * g, part)
        g = g - alpha * (up - down) / (2 * delta)
    return g


def per_fed_avg(w, rounds, alpha, hessian=False):
    def direction(at, batch):
        return meta_gradient(at, batch, alpha, hessian)

    for clients in rounds:
        found = [sgd(w, batches, direction) for batches in clients.values()]
        w = weighted(clients, found)
    return w


def fed_recon(w, rounds, personal, split=False):
    step = 2 if split else 1
    for clients in rounds:
        used, found = {}, []
        for number, batches in clients.items():
            ready = sgd(w, batches[::step], only(personal))
            query = batches[1::2] if split else batches
            if query:
                used[number] = query
                found.append(sgd(ready, query, only(~personal)))
        after = weighted(used, found) if used else w
        w = np.where(personal, w, after)
    return w


def own_ridge(w, batches, choices):
    """The head nearest to a client's targets and to `w`, and which lambda it has.

    Of several, the one with the least error where each example is left out in turn.
    """
    x, y = whole(batches)
    x, target = np.column_stack([x, np.ones(len(x))]), 2 * np.eye(CLASSES)[y] - 1
    of_all = w.reshape(FEATURES + 1, CLASSES)

    def solved(x, target, lam):
        squares = x.T @ x + lam * np.eye(FEATURES + 1)
        return of_all + np.linalg.inv(squares) @ x.T @ (target - x @ of_all)

    def error(lam):
        found = 0
        for out in range(len(x)):
            others = np.arange(len(x)) != out
            head = solved(x[others], target[others], lam)
            found += np.sum((target[out] - x[out] @ head) ** 2)
        return found

    best = min(choices, key=error)
    return solved(x, target, best).ravel(), best


def own_prototype(w, batches, prior):
    x, y = whole(batches)
    means = w[: FEATURES * CLASSES].reshape(FEATURES, CLASSES).T
    own = []
    for c in range(CLASSES):
        mine = x[y == c]
        total = prior * means[c] + mine.sum(0)
        own.append(total / (prior + len(mine)) if len(mine) else means[c])
    own = np.stack(own)
    return np.concatenate([own.T.ravel(), -0.5 * (own**2).sum(1)])
