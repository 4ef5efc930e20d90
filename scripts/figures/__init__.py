"""The parts that `render_figures.py` makes the drawn pictures of the library from; they run inside Blender's Python.

    cast, poses            who is drawn, where and how; plain tables
    body                   the MakeHuman base mesh, its targets, its pose
    clothes, hair, eyes    what is put on a body
    person                 a body with all of it, turned and seated
    scenes                 what a person stands in, and its light
    materials, meshes      what everything above is made of
    picture                the camera and the render

Not here: the library's points and descriptors (library_points.py, make_library_descriptors.py).
"""
