Modality Worklist: ``findscu -W`` is answered from items of ``pacsctl worklist add|list|remove|import`` (CSV, JSON and the ``.wl`` files of DCMTK's wlmscpfs), with every attribute as a key.
