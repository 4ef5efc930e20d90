"""The studio: a local web page to choose what to hide by clicking on it, see it, run it, and review it.

    Door (security) ──► routes (app, *_routes) ──► Session: clips, policy, own templates        (session, clips)
                                                ├─► Seeing: features of a frame, maps, layers   (seeing, features)
                                                └─► Queue ──► a process per run ──► hide_video  (jobs, worker)

A run is the command line's: `run.hide_video` in a process of its own, with its fail-closed contract.

Not here: anything that decides a pixel; what the package does without the extra `studio`.
"""
