"""Tracing a network while another thread uses another one."""

import threading

import torch
from torch import nn

from embedders.image.tracing import trace


class Slow(nn.Module):
    """Its trace lasts until another thread has used a network."""

    def __init__(self, begun, used):
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.begun, self.used = [begun], [used]  # a list: an event cannot be copied

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.begun[0].set()
        assert self.used[0].wait(20)
        return self.one(x)


def test_another_thread_can_use_its_network_meanwhile():
    begun, used, graphs = threading.Event(), threading.Event(), []
    other, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).eval(), torch.ones(1, 2)
    with torch.no_grad():
        expected = other(x)
    tracing = threading.Thread(target=lambda: graphs.append(trace(Slow(begun, used).eval())))
    tracing.start()
    assert begun.wait(20)
    try:
        with torch.no_grad():
            found = other(x)
    finally:
        used.set()
        tracing.join()
    assert torch.equal(found, expected)
    assert [node.op for node in graphs[0].graph.nodes] == ["placeholder", "call_module", "output"]
