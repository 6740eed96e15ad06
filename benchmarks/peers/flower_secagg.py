"""Flower's SecAgg+: its workflow of the server and its client's part, in one process.

`python flower_secagg.py RESULT.json CLIENTS LENGTH SHARES THRESHOLD` hands the messages
over in memory, so that neither Ray nor a network is in the times.
"""

import copy
import json
import os
import pathlib
import statistics
import sys
import time
import types

os.environ['FLWR_TELEMETRY_ENABLED'] = '0'

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.compat.common import recorddict_compat as compat
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.supercore.task_identity import TaskIdentity


class Grid:
    """Hands messages to clients in this process, and takes their processor time."""

    def __init__(self, vectors: np.ndarray):
        """Takes float32 [clients, length]."""
        self.vectors, self.seconds = vectors, np.zeros(len(vectors))
        self.contexts = [
            Context(0, client, {}, RecordDict(), {}) for client in range(len(vectors))
        ]

    def send_and_receive(self, messages, timeout=None) -> list[Message]:
        """Returns the clients' answers."""
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        client = message.metadata.dst_node_id
        # Clients take out of it what others are to read.
        message = copy.deepcopy(message)
        start = time.process_time()
        answer = secaggplus_mod(message, self.contexts[client], self._fit)
        self.seconds[client] += time.process_time() - start
        return answer

    def _fit(self, message: Message, context: Context) -> Message:
        arrays = ndarrays_to_parameters([self.vectors[context.node_id]])
        result = FitRes(Status(Code.OK, ''), arrays, num_examples=1, metrics={})
        return Message(compat.fitres_to_recorddict(result, False), reply_to=message)


class Strategy:
    """Chooses all clients, and keeps the mean."""

    def __init__(self, clients: int):
        """Takes how many there are."""
        self.clients, self.mean = clients, None

    def configure_fit(self, number, parameters, manager) -> list:
        """Returns all clients, who are sent nothing but the protocol's messages."""
        proxies = [types.SimpleNamespace(node_id=i) for i in range(self.clients)]
        return [(proxy, FitIns(parameters, {})) for proxy in proxies]

    def aggregate_fit(self, number, results, failures) -> tuple:
        """Keeps the mean."""
        (self.mean,) = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}


def main(path: str, clients: int, length: int, shares: int, threshold: int) -> None:
    """Runs the four stages once; writes seconds and the error of the mean."""
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = clients
    draw = np.random.default_rng(0)
    vectors = draw.uniform(-1, 1, (clients, length)).astype(np.float32)
    grid, strategy = Grid(vectors), Strategy(clients)
    state = RecordDict()
    state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(
        ndarrays_to_parameters([np.zeros(1, np.float32)]), False
    )
    context = types.SimpleNamespace(
        state=state,
        strategy=strategy,
        client_manager=types.SimpleNamespace(num_available=lambda: clients),
    )
    flow = SecAggPlusWorkflow(
        shares, threshold, max_weight=1.0, clipping_range=1.0, quantization_range=2**21
    )
    work = WorkflowState()
    start = time.process_time()
    for stage in (
        flow.setup_stage,
        flow.share_keys_stage,
        flow.collect_masked_vectors_stage,
        flow.unmask_stage,
    ):
        if not stage(grid, context, work):
            raise RuntimeError(f'{stage.__name__} has failed')
    seconds = time.process_time() - start
    found = {
        'clients': clients,
        'length': length,
        'shares': shares,
        'threshold': threshold,
        'client': statistics.median(grid.seconds),
        'server': seconds - float(grid.seconds.sum()),
        'seconds': seconds,
        'error': float(np.abs(strategy.mean - vectors.mean(0)).max()),
    }
    pathlib.Path(path).write_text(json.dumps(found), 'utf-8')


if __name__ == '__main__':
    main(sys.argv[1], *map(int, sys.argv[2:]))
