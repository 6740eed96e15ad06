"""Personalised methods in a few lines of NumPy, float64, each from its paper.

Each gives the server's weights and every client's own model, by number.
"""

import numpy as np
from method_references import RATE, SIZE, gradient, sgd, towards, weighted


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


def apfl(w, rounds, alpha):
    start, own = w, {}
    for clients in rounds:
        found = []
        for number, batches in clients.items():
            v, at = own.get(number, start), w
            for batch in batches:
                mixture = alpha * v + (1 - alpha) * at
                step = alpha * gradient(mixture, batch)
                at, v = at - RATE * gradient(at, batch), v - RATE * step
            own[number] = v
            found.append(at)
        w = weighted(clients, found)
    return w, {number: alpha * v + (1 - alpha) * w for number, v in own.items()}


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


# The last weights of a softmax model, its bias.
BIAS = np.arange(SIZE) >= SIZE - 3
