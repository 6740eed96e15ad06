"""TFF's own runtime, with a worker process that ends with its parent.

TFF 0.87.0 starts `worker_binary`, a server on a local port, at the first
computation. Left alone, that process outlives Python when Python is killed, keeps
Python's output open (so that `python ... | cat` never returns), is waited for
without a deadline, and is asked again for ever once it is dead.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence

import grpc
import portpicker
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2_grpc
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.backends.native import compiler
from tensorflow_federated.python.core.environments.tensorflow_frontend import (
    tensorflow_computation,
)
from tensorflow_federated.python.core.impl.executor_stacks import (
    python_executor_stacks,
)
from tensorflow_federated.python.core.impl.executors import (
    executor_factory,
    executors_errors,
    remote_executor,
    remote_executor_grpc_stub,
)

from tff_transfer.errors import UserError
from tff_transfer.runtime import failures
from tff_transfer.runtime.installed import Installed

_WORKER = pathlib.Path(tff.__file__).parent / 'data' / 'worker_binary'

# Asks the kernel (PR_SET_PDEATHSIG) to kill this process when its parent's thread
# ends, in whatever way, then becomes the worker. A parent that ended before the
# request is found by its id.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

_CHANNEL_OPTIONS = [
    ('grpc.max_receive_message_length', -1),
    ('grpc.max_send_message_length', -1),
]

_REMEDY = 'use the compiled runtime, or see python -m tff_transfer.doctor'


class _Worker:
    """One worker process and the connection to it."""

    def __init__(self, deadline_s: float):
        if not os.access(_WORKER, os.X_OK):
            raise UserError(
                f"TFF's worker {_WORKER} is missing or not executable; install"
                f' tensorflow_federated again, or {_REMEDY}'
            )
        port = portpicker.pick_unused_port()
        # Nobody reads the output while all is well, and a pipe that nobody reads
        # would block the worker once it is full.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, '-I', '-S', '-c', _LAUNCHER, str(os.getpid())]
        self._process = subprocess.Popen(
            [*command, _WORKER, f'--port={port}'],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        # Also runs when the interpreter ends, before TFF waits for its thread,
        # which may be waiting for the worker.
        self.close = weakref.finalize(self, _end, self._process)
        self._channel = grpc.insecure_channel(f'localhost:{port}', _CHANNEL_OPTIONS)
        ready = grpc.channel_ready_future(self._channel)
        try:
            self._wait_for(ready, deadline_s)
        finally:
            ready.cancel()  # Or a thread would ask for ever.
        self.factory = python_executor_stacks.ResourceManagingExecutorFactory(
            self._executor
        )

    def _wait_for(self, ready: grpc.Future, deadline_s: float):
        end = time.monotonic() + deadline_s
        while True:
            try:
                return ready.result(timeout=0.1)
            except grpc.FutureTimeoutError:
                if self._process.poll() is not None:
                    raise self.error('did not start') from None
                if time.monotonic() > end:
                    self.close()
                    raise self.error(f'did not start in {deadline_s:g} s') from None

    def _executor(self, cardinalities):
        cardinalities.setdefault(tff.CLIENTS, 0)
        executor = remote_executor.RemoteExecutor(_Stub(self, self._channel))
        executor.set_cardinalities(cardinalities)
        return executor

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Returns whether the process runs."""
        return self._process.poll() is None

    def error(self, what: str) -> UserError:
        """Returns the error that says what happened to the worker, in one line."""
        try:
            code = self._process.wait(1)
            how = f' (signal {-code})' if code < 0 else f' (exit code {code})'
        except subprocess.TimeoutExpired:
            how = ''
        self._output.seek(0)
        lines = self._output.read().decode(errors='replace').strip().splitlines()
        said = f', its last words: {lines[-1][:200]}' if lines else ''
        return UserError(f"TFF's worker process {what}{how}{said}; {_REMEDY}")


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


class _Stub(remote_executor_grpc_stub.RemoteExecutorGrpcStub):
    """Calls to the worker, in which the loss of it is final.

    TFF's context would try again for ever, and a worker that was started anew
    knows nothing of the values that the old one held. What fails in a computation
    is raised in TensorFlow's class for the code that the worker gives, which is
    INTERNAL whatever happened.
    """

    def __init__(self, worker: _Worker, channel: grpc.Channel):
        # TFF's own would have a thread ask for the channel's state for ever: one that
        # is in gRPC while this process forks ends both.
        self._stub = executor_pb2_grpc.ExecutorGroupStub(channel)
        self._worker = weakref.proxy(worker)

    def _final(self, call, request):
        try:
            return call(request)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise self._worker.error('was lost') from None
            # The numbers of gRPC's codes are those of TensorFlow's.
            code, _ = error.code().value
            kind = tf.compat.v1.errors.exception_type_from_error_code(code)
            details = error.details().removeprefix('Failed to run computation: ')
            words = failures.words(details) or kind.__name__
            raise failures.failure(
                f"TFF's worker failed: {words}; {_REMEDY}", kind
            ) from None

    def get_executor(self, request):
        """Sends a GetExecutor request."""
        return self._final(super().get_executor, request)

    def create_value(self, request):
        """Sends a CreateValue request."""
        return self._final(super().create_value, request)

    def create_struct(self, request):
        """Sends a CreateStruct request."""
        return self._final(super().create_struct, request)

    def create_call(self, request):
        """Sends a CreateCall request."""
        return self._final(super().create_call, request)

    def create_selection(self, request):
        """Sends a CreateSelection request."""
        return self._final(super().create_selection, request)

    def compute(self, request):
        """Sends a Compute request."""
        return self._final(super().compute, request)

    def dispose(self, request):
        """Sends a Dispose request; a lost worker holds nothing any more."""
        try:
            return super().dispose(request)
        except executors_errors.RetryableError:
            return None


class _Workers(executor_factory.ExecutorFactory):
    """Starts the worker at the first computation, and again once it is lost.

    The kernel's parent death signal is sent when the thread that started the
    worker ends. TFF calls this in the context's own thread, which lives as long as
    the context does.
    """

    def __init__(self, deadline_s: float):
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process id, or None if there is none."""
        return self._worker.pid if self._worker else None

    def create_executor(self, cardinalities):
        """Returns an executor of the worker."""
        with self._lock:
            if self._closed:
                raise UserError('this runtime has ended: call use_stock() again')
            if self._worker is None or not self._worker.is_alive():
                self._worker = _Worker(self._deadline_s)
            return self._worker.factory.create_executor(cardinalities)

    def clean_up_executor(self, cardinalities):
        """Forgets an executor after an error in it."""
        if self._worker is not None and self._worker.is_alive():
            self._worker.factory.clean_up_executor(cardinalities)

    def close(self):
        """Ends the worker."""
        self._closed = True
        if self._worker is not None:
            self._worker.close()


class _StockContext(tff.framework.SyncExecutionContext):
    """TFF's context, which takes any sequence of clients."""

    def invoke(self, comp, arg):
        """Runs `comp` on the worker."""
        return super().invoke(
            comp, _clients_as_lists(arg, comp.type_signature.parameter)
        )


def _clients_as_lists(value, type_spec):
    if isinstance(type_spec, tff.FederatedType):
        if (
            type_spec.placement is tff.CLIENTS
            and not type_spec.all_equal
            and isinstance(value, Sequence)
        ):
            return list(value)
    elif isinstance(type_spec, tff.StructType) and isinstance(value, structure.Struct):
        return structure.Struct(
            (name, _clients_as_lists(element, element_type))
            for (name, element), (_, element_type) in zip(
                structure.iter_elements(value),
                structure.iter_elements(type_spec),
                strict=True,
            )
        )
    return value


def use_stock(deadline_s: float = 60.0) -> Installed:
    """Makes TFF's own runtime the default, with a worker that cannot be left over.

    The worker is started by the first computation and ends when the `with` block
    or this process ends, in whatever way. Its output does not mix with this
    process's. A running event loop is no obstacle.

    Args:
      deadline_s: The most seconds that the worker may take to start.

    Returns:
      What brings the previous default back, if it is used in a `with` statement.

    Raises:
      UserError: By the computations: the worker cannot start, or was lost; or
        what was computed failed, and then it is a `tf.errors.InternalError` too.
    """
    workers = _Workers(deadline_s)
    context = _StockContext(
        executor_fn=workers,
        compiler_fn=compiler.desugar_and_transform_to_native,
        transform_args=tensorflow_computation.transform_args,
        transform_result=tensorflow_computation.transform_result,
    )
    return Installed(context, workers.close)
