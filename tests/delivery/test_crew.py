"""A crew runs jobs at once in tasks that are used again."""

import asyncio

import anyio

from delivery.crew import Crew


async def test_jobs_run_at_once_and_tasks_are_used_again() -> None:
    """As many tasks as there are jobs at a time, and no more later."""
    workers: list[asyncio.Task[None] | None] = []
    release = anyio.Event()

    async def work(number: int) -> None:
        workers.append(asyncio.current_task())
        if number < 2:
            await release.wait()

    async with anyio.create_task_group() as tasks:
        crew = Crew(work, tasks)
        crew.start(0)
        crew.start(1)
        await anyio.wait_all_tasks_blocked()
        release.set()
        await anyio.wait_all_tasks_blocked()
        for number in (2, 3, 4):
            crew.start(number)
            await anyio.wait_all_tasks_blocked()
        crew.close()

    assert len(workers) == 5
    assert len(set(workers)) == 2


async def test_closing_ends_the_idle_and_lets_the_busy_finish() -> None:
    """After close the task group ends as soon as the last job is done."""
    finished: list[int] = []
    release = anyio.Event()

    async def work(number: int) -> None:
        if number:
            await release.wait()
        finished.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            crew = Crew(work, tasks)
            crew.start(0)
            crew.start(1)
            await anyio.wait_all_tasks_blocked()
            crew.close()
            release.set()

    assert finished == [0, 1]


async def test_a_cancelled_idle_task_gets_no_job() -> None:
    """Once its tasks are cancelled a crew loses nothing: the job is not handed to the dead."""
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)

    async with anyio.create_task_group() as tasks:
        crew = Crew(work, tasks)
        crew.start(0)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    async with anyio.create_task_group() as others:
        crew._tasks = others
        crew.start(1)
        await anyio.wait_all_tasks_blocked()
        crew.close()

    assert done == [0, 1]


async def test_closing_passes_over_the_cancelled() -> None:
    """A task that was cancelled while it had no job is not woken."""

    async def work() -> None:
        return

    async with anyio.create_task_group() as tasks:
        crew = Crew(work, tasks)
        crew.start()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    crew.close()

    assert crew._idle == []
