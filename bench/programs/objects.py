"""objects.py PERCENT - CPython's life: dicts, lists and strings, JSON there and back, a graph of
objects that is made, walked and dropped. Run with PYTHONMALLOC=malloc: every object is malloc's."""
import json
import sys


class Node:
    def __init__(self, number):
        self.name = f"node {number}"
        self.neighbours = []
        self.weights = {}


def graph(count):
    nodes = [Node(number) for number in range(count)]
    for number, node in enumerate(nodes):
        for step in (1, 7, 31):
            other = nodes[number * step % count]
            node.neighbours.append(other)
            node.weights[other.name] = number * 1.5
    return sum(len(n.weights) for n in nodes) + sum(w for n in nodes for w in n.weights.values())


def documents(count):
    made = [{"id": n, "name": f"document {n}", "tags": [str(t) for t in range(n % 12)],
             "size": n * 0.25, "parent": None} for n in range(count)]
    back = json.loads(json.dumps(made))
    words = " ".join(d["name"] for d in back).split()
    counts = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return len(counts)


def main():
    percent = int(sys.argv[1])
    for _ in range(max(1, percent // 20)):
        graph(6000)
        documents(6000)


main()
