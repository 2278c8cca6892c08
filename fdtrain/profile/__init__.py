"""What each rank does when: a timeline of its training, and the shares of computing, sending and waiting.

Nothing of this is in the loop. A profiled run wraps what training goes through, the two planes of a rank and the calls
that lead to them, for as long as it lasts.
"""

from fdtrain.profile.orders import Profile as Profile
from fdtrain.profile.orders import Settings as Settings
from fdtrain.profile.orders import profiled as profiled
