"""Why a model answered as it did: Shapley values of the features, exact where the graph allows it.

Mathematics only, with NumPy: graphs come as plain data (``nodes``), and what has to be run is yielded to the caller
(``methods``), who owns the model, its threads and its time.
"""
