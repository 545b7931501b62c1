"""A cluster's workers as an executor: dask.distributed, where it is installed (extra `cluster`)."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from mdls_cosim.characterize.workers import end_jobs
from mdls_cosim.errors import ExecutorError, NotAvailable

CONNECT_SECONDS = 6


@contextmanager
def connected(address: str) -> Iterator[Executor]:
    """An executor on the workers of the dask scheduler at `address` ("tcp://host:8786").

    Where the body is left by an exception, what ngspice does for it on the workers is ended.

    Raises:
        NotAvailable: dask.distributed is not installed.
        ExecutorError: nothing answers at `address`, or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise NotAvailable(
            "dask.distributed is not installed", hint="Install it: pip install 'mdls_cosim[cluster]'"
        ) from error
    with _quiet("distributed", "distributed.client", "tornado.application"):
        try:
            client: Any = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise ExecutorError(
                "no dask scheduler answers",
                where=address,
                limit="an address like tcp://host:8786",
                hint="`dask scheduler` starts one and says its address",
            ) from error
        executor = _ClientExecutor(client)
        try:
            try:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            except TimeoutError as error:
                raise ExecutorError(
                    "the dask scheduler has no workers",
                    where=address,
                    hint=f"Start some: dask worker {address} --nthreads 1 --nworkers 4",
                ) from error
            yield executor
        except BaseException:
            executor.drop()
            raise
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=2)


class _ClientExecutor(Executor):
    """The executor of a dask client.

    dask's own leaves a future waiting for ever where the scheduler dies as its result is fetched.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._remote: weakref.WeakSet[Any] = weakref.WeakSet()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        # Not pure: dask would else hash the arguments to find equal calls, and points are different.
        remote = self._client.submit(fn, *args, **kwargs, pure=False)
        local: Future[Any] = Future()
        self._remote.add(remote)
        self._client.loop.add_callback(_transfer, remote, local)
        return local

    def share(self, value: Any) -> Any:
        """What stands for `value` among the arguments of `submit`, and goes to each worker once."""
        return self._client.scatter(value, broadcast=True, hash=False)

    def drop(self) -> None:
        """Forgets what waits, and ends what ngspice does on the workers."""
        with contextlib.suppress(Exception):
            self._client.cancel(list(self._remote), force=True)
            self._client.run(end_jobs, on_error="ignore")


async def _transfer(remote: Any, local: Future[Any]) -> None:
    """Waits for the remote future, and gives its outcome to the local one."""
    try:
        result, failure = await remote, None
    except BaseException as error:
        result, failure = None, error
    if not local.set_running_or_notify_cancel():
        return
    if failure is None:
        local.set_result(result)
    else:
        local.set_exception(failure)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without the log lines of others: what went wrong is raised, and once."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
