"""The addresses of Message Batches. Faults by header act on the request itself, but for those of a voice's answers.

A status is answered before anything is done; any other fault loses what was done already on its way back. A fault that
is the voice's (`decline`, `expire`, ...), in the header with which a batch is created, acts on each of its answers.
"""

from aiohttp import web

from workers.rehearsal.batches import Batch, Batches, read_batch_request
from workers.rehearsal.faults import NO_FAULT, Fault
from workers.rehearsal.messages import Player
from workers.rehearsal.wire import (
    MOST_BATCH_BYTES,
    admitted,
    listing,
    page_of,
    parsed,
    read_body,
    refuse_if_asked,
    send,
    send_lines,
    without_key,
)


class BatchRoutes:
    """One method for each address of the batches."""

    def __init__(self, batches: Batches, player: Player) -> None:
        self._batches = batches
        self._player = player

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve the batches at their addresses."""
        router.add_post("/v1/messages/batches", self.create_batch)
        router.add_get("/v1/messages/batches", self.list_batches)
        router.add_get("/v1/messages/batches/{batch_id}", self.retrieve_batch)
        router.add_delete("/v1/messages/batches/{batch_id}", self.delete_batch)
        router.add_post("/v1/messages/batches/{batch_id}/cancel", self.cancel_batch)
        router.add_get("/v1/messages/batches/{batch_id}/results", self.send_results)

    async def create_batch(self, request: web.Request) -> web.StreamResponse:
        """Take a batch."""
        body, malformed = parsed(await read_body(request, MOST_BATCH_BYTES))
        version = admitted(request)
        if malformed is not None:
            raise malformed
        requests = read_batch_request(body)
        headers = without_key(request)
        fault = self._player.header_fault(request.headers, of_the_answer=False) or NO_FAULT
        await refuse_if_asked(request, fault)
        return await send(request, self._batches.create(requests, headers, version).told(_asked_at(request)), fault)

    async def list_batches(self, request: web.Request) -> web.StreamResponse:
        """List the batches, the newest first."""
        fault = self._admitted(request)
        page, more = page_of(request.query, self._batches.newest_first())
        told = [batch.told(_asked_at(request)) for batch in page]
        return await send(request, listing(page, told, more=more), fault)

    async def retrieve_batch(self, request: web.Request) -> web.StreamResponse:
        """Tell how far a batch is."""
        fault = self._admitted(request)
        return await send(request, self._asked_for(request).told(_asked_at(request)), fault)

    async def cancel_batch(self, request: web.Request) -> web.StreamResponse:
        """Begin to cancel a batch."""
        fault = self._admitted(request)
        batch = self._asked_for(request)
        await refuse_if_asked(request, fault)
        self._batches.cancel(batch)
        return await send(request, batch.told(_asked_at(request)), fault)

    async def send_results(self, request: web.Request) -> web.StreamResponse:
        """Send the results of a batch."""
        fault = self._admitted(request)
        return await send_lines(request, self._batches.results(self._asked_for(request)), fault)

    async def delete_batch(self, request: web.Request) -> web.StreamResponse:
        """Forget a batch."""
        fault = self._admitted(request)
        batch = self._asked_for(request)
        await refuse_if_asked(request, fault)
        self._batches.delete(batch)
        return await send(request, {"id": batch.id, "type": "message_batch_deleted"}, fault)

    def _admitted(self, request: web.Request) -> Fault:
        admitted(request)
        return self._player.header_fault(request.headers) or NO_FAULT

    def _asked_for(self, request: web.Request) -> Batch:
        return self._batches.find(request.match_info["batch_id"])


def _asked_at(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"
