"""The one place that turns settings into objects. Made once per process, after any fork."""



