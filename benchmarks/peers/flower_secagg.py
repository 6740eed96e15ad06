"""Flower's SecAgg+: its workflow of the server and its client's part, in one process.

`python flower_secagg.py RESULT.json CLIENTS LENGTH SHARES THRESHOLD` hands the messages
over in memory, so that neither Ray nor a network is in the times.
"""

import os
import time

os.environ['FLWR_TELEMETRY_ENABLED'] = '0'

import numpy as np
from flwr.app import Context, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Message, Status, ndarrays_to_parameters
from flwr.common import recorddict_compat as compat


class Grid:
    """Hands messages to clients in this process, and takes each client's time."""

    def __init__(self, vectors):
        """Takes float32 [clients, length]."""
        self.vectors, self.seconds = vectors, np.zeros(len(vectors))
        self.contexts = [
            Context(0, i, {}, RecordDict(), {}) for i in range(len(vectors))
        ]

    def send_and_receive(self, messages, timeout=None):
        """Returns the clients' answers."""
        return [self._answer(message) for message in messages]

    def _answer(self, message):
        client = message.metadata.dst_node_id
        # A message is given its id where it would be sent.
        start = time.perf_counter()
        answer = secaggplus_mod(message, self.contexts[client], self._fit)
        self.seconds[client] += time.perf_counter() - start
        return answer

    def _fit(self, message, context):
        arrays = ndarrays_to_parameters([self.vectors[context.node_id]])
        result = FitRes(Status(Code.OK, ''), arrays, num_examples=1, metrics={})
        return Message(compat.fitres_to_recorddict(result, False), reply_to=message)
